"""Generated MIDI files, read by mido, music21 and symusic: ticks, tempo, signatures, instrument."""

from __future__ import annotations

from pathlib import Path

import mido
import music21
import numpy as np
import pytest
import symusic
from conftest import make_notes

from musegen.codecs.messages import MESSAGES, MessageCodec
from musegen.codecs.midi import read_notes, read_score, write_notes
from musegen.codecs.midi_layout import MidiLayout, layout_of, ticks_for, with_layout
from musegen.codecs.roll_codec import RollCodec

ROWS = [(60, 80, 0.5), (64, 80, 0.0), (60, 0, 1 / 3), (64, 0, 2 / 3), (67, 90, 0.0), (67, 0, 1.5)]
"""C and E on the second eighth; C ends after a third of a beat, E after a beat; then G."""
TICKS = [240, 240, 400, 720, 720, 1440]
"""The same in ticks, 480 per beat."""


@pytest.fixture
def waltz(tmp_path: Path) -> Path:
    codec = MessageCodec(time_unit="beats", program=48)
    notes = codec.to_notes(codec.quantise(np.array(ROWS, MESSAGES)), 90, (3, 4))
    write_notes(notes, tmp_path / "waltz.mid")
    return tmp_path / "waltz.mid"


def test_mido_reads_the_ticks_and_the_signs(waltz: Path) -> None:
    file = mido.MidiFile(waltz)
    conductor, notes = file.tracks
    assert (file.type, file.ticks_per_beat) == (1, 480)
    assert [(m.type, m.time) for m in conductor] == [
        ("set_tempo", 0), ("time_signature", 0), ("end_of_track", 0)
    ]  # fmt: skip
    assert conductor[0].tempo == 666_667
    assert (conductor[1].numerator, conductor[1].denominator) == (3, 4)
    assert notes.name == "Ensemble"
    assert [m.program for m in notes if m.type == "program_change"] == [48]
    messages = [m for m in notes if m.type == "note_on"]
    assert np.cumsum([m.time for m in messages]).tolist() == TICKS
    assert [(m.note, m.velocity > 0) for m in messages] == [(n, v > 0) for n, v, _ in ROWS]


def test_music21_reads_notes_on_the_beat(waltz: Path) -> None:
    score = music21.converter.parse(waltz, quantizePost=False, forceSource=True)
    found = sorted((n.pitch.midi, n.offset, n.quarterLength) for n in score.flatten().notes)
    assert [(p, float(o), float(q)) for p, o, q in found] == [
        (60, 0.5, pytest.approx(1 / 3)), (64, 0.5, 1.0), (67, 1.5, 1.5)
    ]  # fmt: skip
    (tempo,) = score.flatten().getElementsByClass(music21.tempo.MetronomeMark)
    assert tempo.number == pytest.approx(90, abs=0.01)
    signatures = score.flatten().getElementsByClass(music21.meter.TimeSignature)
    assert [s.ratioString for s in signatures] == ["3/4"]


def test_symusic_reads_the_same(waltz: Path) -> None:
    score = symusic.Score(waltz)
    assert score.ticks_per_quarter == 480
    assert score.tempos[0].mspq == 666_667
    assert (score.time_signatures[0].numerator, score.time_signatures[0].denominator) == (3, 4)
    (track,) = [t for t in score.tracks if len(t.notes)]
    assert (track.program, track.name) == (48, "Ensemble")
    assert sorted((n.time, n.duration, n.pitch) for n in track.notes) == [
        (240, 160, 60), (240, 480, 64), (720, 720, 67)
    ]  # fmt: skip


def test_a_generated_file_is_read_as_it_was_generated(waltz: Path) -> None:
    codec = MessageCodec(time_unit="beats")
    stream = codec.read(waltz)
    expected = codec.encode(np.array(ROWS, MESSAGES))
    np.testing.assert_array_equal(codec.encode(stream), expected)
    assert set(stream["bar"]) == {3.0}
    assert 60 / stream["seconds_per_beat"][0] == pytest.approx(90, abs=1e-3)
    assert read_score(waltz).bars.tolist() == [(0.0, 0.0, 3.0)]


@pytest.mark.parametrize(("frames_per_beat", "ticks"), [(1, 480), (2, 480), (4, 480), (7, 483)])
def test_frames_of_a_roll_are_exact_ticks(tmp_path: Path, frames_per_beat: int, ticks: int) -> None:
    codec = RollCodec(dt=0.17, frames_per_beat=frames_per_beat, common_key=True)
    roll_TP = np.zeros((90, 88), np.uint8)
    for t, pitch in enumerate([60, 62, 64, 65, 67, 69, 71, 72] * 11):
        roll_TP[t, pitch - 21] = 1
    write_notes(codec.decode(roll_TP), tmp_path / "a.mid")
    file = mido.MidiFile(tmp_path / "a.mid")
    assert file.ticks_per_beat == ticks_for(frames_per_beat) == ticks
    deltas = {m.time for m in file.tracks[1] if m.type == "note_on"}
    assert deltas == {0, ticks // frames_per_beat}
    assert [m.tempo for m in file.tracks[0] if m.type == "set_tempo"] == [170_000 * frames_per_beat]
    assert [m.key for m in file.tracks[0] if m.type == "key_signature"] == ["C"]
    np.testing.assert_array_equal(codec.encode(read_notes(tmp_path / "a.mid")), roll_TP[:88])


def test_the_key_is_minor_where_the_notes_are() -> None:
    codec = RollCodec(frames_per_beat=2, common_key=True)
    roll_TP = np.zeros((8, 88), np.uint8)
    for t, pitch in enumerate([60, 62, 63, 65, 67, 68, 60, 63]):
        roll_TP[t, pitch - 21] = 1
    assert layout_of(codec.decode(roll_TP)).key == "Cm"
    assert layout_of(RollCodec(frames_per_beat=2).decode(roll_TP)).key is None
    assert layout_of(RollCodec().decode(roll_TP)) == MidiLayout()


def test_parts_of_laid_out_notes_keep_their_layout() -> None:
    notes = make_notes([(0.0, 1.0, 60, 80), (1.0, 2.0, 62, 80)])
    layout = MidiLayout(seconds_per_beat=1.0, program=19)
    laid_out = with_layout(notes, layout)
    assert layout_of(laid_out[1:]) == layout_of(laid_out.copy()) == layout
    assert layout_of(notes) == MidiLayout()
    assert layout.track_name == "Organ"
