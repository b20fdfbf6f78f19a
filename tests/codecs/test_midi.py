"""MIDI files ↔ notes: timing, channels, pedal, files that are refused, round trips."""

from __future__ import annotations

import csv
import os
import struct
import time
from pathlib import Path

import mido
import numpy as np
import pytest
from conftest import make_notes, max_cpu_seconds, tune
from hypothesis import given
from hypothesis import strategies as st

from musegen.codecs import midi
from musegen.codecs.midi import NOTES, read_notes, read_prime, tidy, write_notes
from musegen.errors import UserError


def save(path: Path, *tracks: list[mido.Message | mido.MetaMessage], **settings) -> Path:
    file = mido.MidiFile(**{"ticks_per_beat": 100, **settings})
    file.tracks += [mido.MidiTrack(t) for t in tracks]
    file.save(path)
    return path


def on(note: int, velocity: int, delta: int, channel: int = 0) -> mido.Message:
    return mido.Message("note_on", note=note, velocity=velocity, time=delta, channel=channel)


def off(note: int, delta: int, channel: int = 0) -> mido.Message:
    return mido.Message("note_off", note=note, time=delta, channel=channel)


def pedal(value: int, delta: int) -> mido.Message:
    return mido.Message("control_change", control=64, value=value, time=delta)


def test_three_notes_with_a_tempo_change(tmp_path: Path) -> None:
    # 100 ticks per beat. A beat is 0.5 s at the default 120 bpm, and 1 s after the change.
    path = save(
        tmp_path / "a.mid",
        [on(60, 64, 0), off(60, 100), mido.MetaMessage("set_tempo", tempo=1_000_000, time=0),
         on(62, 65, 0), on(62, 0, 50), on(64, 66, 50), off(64, 100)],
    )  # fmt: skip
    expected = make_notes([(0, 0.5, 60, 64), (0.5, 1.0, 62, 65), (1.5, 2.5, 64, 66)])
    np.testing.assert_array_equal(read_notes(path), expected)


def test_seconds_per_beat_replaces_the_tempo(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.mid",
        [mido.MetaMessage("set_tempo", tempo=300_000), on(60, 64, 0), off(60, 100),
         mido.MetaMessage("set_tempo", tempo=1_000_000, time=0), on(62, 65, 50), off(62, 100)],
    )  # fmt: skip
    notes = read_notes(path, seconds_per_beat=0.4)
    assert notes["start"].tolist() == pytest.approx([0, 0.6])
    assert notes["end"].tolist() == pytest.approx([0.4, 1.0])


def test_unisons_of_two_parts_can_be_read_as_two_notes(tmp_path: Path) -> None:
    chord = [on(60, 64, 0), off(60, 400)]
    melody = [on(60, 80, 100), off(60, 100)]
    path = save(tmp_path / "a.mid", chord, melody)
    both = read_notes(path, overlapping=True)
    assert sorted(zip(both["start"].tolist(), both["end"].tolist(), strict=True)) == [
        (0.0, 2.0), (0.5, 1.0)
    ]  # fmt: skip
    assert read_notes(path)["end"].tolist() == [0.5, 1.0]


def test_the_tempo_of_another_track_applies(tmp_path: Path) -> None:
    tempo = [mido.MetaMessage("set_tempo", tempo=1_000_000, time=0)]
    path = save(tmp_path / "a.mid", tempo, [on(60, 64, 0), off(60, 100)])
    assert read_notes(path)["end"][0] == 1.0


def test_all_channels_except_percussion_are_read(tmp_path: Path) -> None:
    tracks = [[on(60 + c, 64, 0, c), off(60 + c, 100, c)] for c in range(16)]
    pitches = read_notes(save(tmp_path / "a.mid", *tracks))["pitch"]
    assert pitches.tolist() == [60 + c for c in range(16) if c != 9]


def test_smpte_division(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mid", [on(60, 64, 0), off(60, 500)])
    data = bytearray(path.read_bytes())
    data[12:14] = struct.pack(">bB", -25, 40)  # 25 frames per second of 40 ticks: a tick is 1 ms
    path.write_bytes(data)
    assert read_notes(path)["end"][0] == pytest.approx(0.5)


@pytest.mark.parametrize(("frames", "per_second"), [(24, 24), (25, 25), (29, 30 / 1.001), (30, 30)])
def test_smpte_frames_per_second(tmp_path: Path, frames: int, per_second: float) -> None:
    """29 means 29.97, as in television."""
    path = save(tmp_path / "a.mid", [on(60, 64, 0), off(60, 400)])
    data = bytearray(path.read_bytes())
    data[12:14] = struct.pack(">bB", -frames, 4)
    path.write_bytes(data)
    assert read_notes(path)["end"][0] == pytest.approx(100 / per_second)


def test_tracks_of_format_2_have_their_own_tempos(tmp_path: Path) -> None:
    slow = mido.MetaMessage("set_tempo", tempo=1_000_000)
    tracks = [slow, on(60, 64, 0), off(60, 100)], [on(62, 64, 0), off(62, 100)]
    notes = read_notes(save(tmp_path / "a.mid", *tracks, type=2))
    assert notes[["start", "end"]].tolist() == [(0.0, 1.0), (1.0, 1.5)]


def test_pipes_folders_and_missing_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mid")
    for name, message in (
        ("pipe.mid", "not a file"),
        ("none.mid", "No such file"),
        (".", "not a file"),
    ):
        with pytest.raises(UserError, match=message):
            read_prime(tmp_path / name)


def test_tracks_of_format_2_follow_each_other(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.mid", [on(60, 64, 0), off(60, 100)], [on(62, 64, 0), off(62, 100)], type=2
    )
    assert read_notes(path)["start"].tolist() == [0.0, 0.5]


def test_pedalled_notes_end_when_the_pedal_is_released(tmp_path: Path) -> None:
    events = [on(60, 64, 0), pedal(127, 50), off(60, 50), pedal(0, 100), on(64, 64, 0), off(64, 1)]
    path = save(tmp_path / "a.mid", events)
    assert read_notes(path)["end"][0] == 0.5
    assert read_notes(path, sustain=True)["end"][0] == 1.0


def test_a_pedalled_note_ends_when_its_pitch_is_played_again(tmp_path: Path) -> None:
    events = [pedal(127, 0), on(60, 64, 0), off(60, 50), on(60, 70, 50), off(60, 50), pedal(0, 50)]
    notes = read_notes(save(tmp_path / "a.mid", events), sustain=True)
    np.testing.assert_array_equal(notes, make_notes([(0, 0.5, 60, 64), (0.5, 1.0, 60, 70)]))


def test_tracks_with_the_same_channel_and_pitch_are_separate(tmp_path: Path) -> None:
    first = [on(60, 64, 0), off(60, 100), on(60, 64, 300), off(60, 100)]
    second = [on(60, 50, 50), off(60, 100)]
    notes = read_notes(save(tmp_path / "a.mid", first, second))
    expected = [(0, 0.25, 60, 64), (0.25, 0.75, 60, 50), (2.0, 2.5, 60, 64)]
    np.testing.assert_array_equal(notes, make_notes(expected))


def test_a_missing_release_makes_one_note_longer(tmp_path: Path) -> None:
    grace = [off(60, 0), on(60, 64, 0)]  # music21 writes the release of a grace note first
    events = [*grace, on(60, 70, 200), off(60, 50), on(60, 80, 200), off(60, 50)]
    notes = read_notes(save(tmp_path / "a.mid", events))
    expected = [(0, 1.0, 60, 64), (1.0, 1.25, 60, 70), (2.25, 2.5, 60, 80)]
    np.testing.assert_array_equal(notes, make_notes(expected))


def test_onsets_without_release_and_releases_without_onset(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mid", [off(70, 0), on(60, 64, 0), on(62, 64, 50), off(62, 50)])
    expected = make_notes([(0, 0.5, 60, 64), (0.25, 0.5, 62, 64)])
    np.testing.assert_array_equal(read_notes(path), expected)


def test_invalid_values_in_unused_meta_messages_are_ignored(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mid", [mido.MetaMessage("smpte_offset"), on(60, 64, 0), off(60, 10)])
    data = path.read_bytes()
    at = data.index(b"\xff\x54\x05")
    path.write_bytes(data[: at + 7] + b"\xff" + data[at + 8 :])  # 255 sub-frames; 99 is the largest
    with pytest.raises(ValueError, match="0..99"):
        mido.MidiFile(path, clip=True)
    assert len(read_notes(path)) == 1
    with pytest.raises(ValueError, match="0..99"):  # reading has not changed mido itself
        mido.MidiFile(path, clip=True)


def test_a_corrupt_delta_time_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mid", [on(60, 64, 0), off(60, 2**28 - 1)])
    with pytest.raises(UserError, match=r"a\.mid: lasts 373 hours"):
        read_notes(path)


def test_a_corrupt_delta_time_after_the_last_note_is_ignored(tmp_path: Path) -> None:
    end = mido.MetaMessage("end_of_track", time=2**28 - 1)
    assert len(read_notes(save(tmp_path / "a.mid", [on(60, 64, 0), off(60, 10), end]))) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "ends too early"),
        (b"just some text, not music\n", "MThd not found"),
        (b"MThd\0\0\0\6\0\1\0\1\0\0MTrk\0\0\0\4\0\xff\x2f\0", "has no unit of time"),
        (b"MThd\0\0\0\6\0\1\0\1\xe7\0MTrk\0\0\0\4\0\xff\x2f\0", "has no unit of time"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60", "has no track"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\1\0\0\x90\x40", "ends too early"),
    ],
)
def test_unreadable_files_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.mid"
    path.write_bytes(content)
    with pytest.raises(UserError, match=reason):
        read_notes(path)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    with open(path, "wb") as file:
        file.truncate(midi.MAX_BYTES + 1)
    with pytest.raises(UserError, match="4194305 bytes"):
        read_notes(path)


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    notes = tidy(tune(3))
    write_notes(notes, tmp_path / "a.mid")
    np.testing.assert_allclose(read_notes(tmp_path / "a.mid")["start"] + notes["start"][0],
                               notes["start"] + read_notes(tmp_path / "a.mid")["start"][0],
                               atol=0.001)  # fmt: skip
    np.testing.assert_array_equal(read_notes(tmp_path / "a.mid")["pitch"], notes["pitch"])
    assert not list(tmp_path.glob("*.part"))


note_rows = st.lists(
    st.tuples(st.integers(0, 5000), st.integers(0, 2000), st.integers(0, 127), st.integers(1, 127)),
    max_size=40,
)


@given(rows=note_rows)
def test_tidy_removes_overlaps_and_its_result_survives_a_file(rows, tmp_path_factory) -> None:
    notes = make_notes([(s / 1000, (s + d) / 1000, p, v) for s, d, p, v in rows])
    clean = tidy(notes)
    assert (clean["end"] > clean["start"]).all()
    for pitch in np.unique(clean["pitch"]):
        of_pitch = clean[clean["pitch"] == pitch]
        assert (of_pitch["start"][1:] >= of_pitch["end"][:-1]).all()
    np.testing.assert_array_equal(tidy(clean), clean)
    path = tmp_path_factory.getbasetemp() / "property.mid"
    write_notes(notes, path)
    back = read_notes(path)
    np.testing.assert_array_equal(back[["pitch", "velocity"]], clean[["pitch", "velocity"]])
    for column in ("start", "end"):
        np.testing.assert_allclose(back[column], clean[column], atol=1e-9)


@pytest.mark.slow
@pytest.mark.real_data
def test_real_files_give_notes_or_a_user_error(real_data: Path) -> None:
    """Files of the test suites of MIDI parsers: read as by mido, or refused with one line."""
    folder = real_data / "midi_odd"
    with open(folder / "INDEX.tsv", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    assert len(rows) > 200
    limit = max_cpu_seconds()
    for row in rows:
        started = time.process_time()
        by_mido = row["mido_notes_or_error"]
        try:
            notes = read_notes(folder / row["file"])
        except UserError as e:
            assert "\n" not in str(e)
            assert row["file"] in str(e)
            assert not by_mido.isdigit(), f"{row['file']}: mido reads {by_mido} notes"
        else:
            # mido counts the onsets of percussion, of repeated pitches and of empty notes, which
            # are not notes here. With clip=True mido can read more files than the index says.
            assert not by_mido.isdigit() or len(notes) <= int(by_mido)
            assert np.isfinite(notes["end"]).all()
        assert time.process_time() - started < limit


def test_a_prime_is_cut_off_after_its_seconds(tmp_path) -> None:
    notes = np.array([(0.0, 1.0, 60, 80), (0.5, 3.0, 64, 80), (2.0, 3.0, 67, 80)], NOTES)
    write_notes(notes, tmp_path / "my.mid")
    assert read_prime(tmp_path / "my.mid").tolist() == notes.tolist()
    cut = read_prime(tmp_path / "my.mid", 2.0)
    assert cut[["start", "end"]].tolist() == [(0.0, 1.0), (0.5, 2.0)]
