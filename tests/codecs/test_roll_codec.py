"""Notes ↔ rolls: hand-made frames, and round trips of random rolls, also through MIDI files."""

from __future__ import annotations

from pathlib import Path

import mido
import numpy as np
import pytest
from conftest import make_notes, tune
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from musegen.codecs.midi import read_notes, write_notes
from musegen.codecs.roll_codec import RollCodec
from musegen.codecs.tonality import MAJOR, MINOR
from musegen.errors import UserError
from musegen.specs import Rolls, spec_from_dict

SMALL = RollCodec(pitch_range=(60, 63), dt=0.5)


def trimmed(roll_TP: np.ndarray) -> np.ndarray:
    """The roll without the silent frames at its end, which notes cannot represent."""
    sounding = np.flatnonzero(roll_TP.any(1))
    return roll_TP[: sounding[-1] + 1 if len(sounding) else 0]


def test_a_frame_contains_the_notes_that_sound_at_its_middle() -> None:
    notes = make_notes([
        (0.0, 1.0, 60, 80),    # frames 0 and 1
        (0.25, 0.75, 61, 80),  # from the middle of frame 0 to the middle of frame 1: frame 0 only
        (0.26, 0.74, 62, 80),  # between two middles: no frame
        (1.0, 1.5, 59, 80),    # outside the pitch range
    ])  # fmt: skip
    assert SMALL.encode(notes).tolist() == [[1, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("late", [-0.24, -0.01, 0.01, 0.24])
def test_notes_on_the_grid_may_be_half_a_frame_early_or_late(late: float) -> None:
    rows = [(1.0, 1.5, 60, 80), (1.5, 2.5, 62, 80)]
    moved = make_notes([(a + late, b + late, p, v) for a, b, p, v in rows])
    assert SMALL.encode(moved).tolist() == SMALL.encode(make_notes(rows)).tolist()


def test_overlapping_notes_of_one_pitch() -> None:
    """The longer note continues after the shorter one ends."""
    notes = make_notes([(0.0, 2.0, 60, 80), (0.5, 1.0, 60, 80)])
    assert SMALL.encode(notes)[:, 0].tolist() == [1, 1, 1, 1]


def test_sustain_and_retrigger() -> None:
    roll_TP = np.array([[1, 0, 1], [1, 0, 0], [0, 0, 1]])
    sustained = SMALL.decode(roll_TP)
    assert sustained["pitch"].tolist() == [60, 62, 62]
    assert sustained["start"].tolist() == [0.0, 0.0, 1.0]
    assert sustained["end"].tolist() == [1.0, 0.5, 1.5]
    retriggered = RollCodec((60, 63), 0.5, repeats="retrigger").decode(roll_TP)
    assert retriggered["pitch"].tolist() == [60, 62, 60, 62]
    assert retriggered["end"].tolist() == [0.5, 0.5, 1.0, 1.5]


rolls = arrays(np.uint8, st.tuples(st.integers(0, 30), st.just(5)), elements=st.integers(0, 1))


@given(roll_TP=rolls, dt=st.floats(0.01, 60), repeats=st.sampled_from(["sustain", "retrigger"]))
def test_round_trip_of_any_roll(roll_TP, dt, repeats) -> None:
    codec = RollCodec((60, 65), dt, repeats)
    notes = codec.decode(roll_TP)
    assert (notes["end"] > notes["start"]).all()
    np.testing.assert_array_equal(codec.encode(notes), trimmed(roll_TP))
    np.testing.assert_array_equal(codec.decode(roll_TP.astype(bool)), notes)
    np.testing.assert_array_equal(codec.decode(roll_TP.astype(np.float32)), notes)


@hypothesis_settings(max_examples=50)
@given(roll_TP=rolls, dt=st.floats(0.01, 2), repeats=st.sampled_from(["sustain", "retrigger"]))
def test_round_trip_through_a_midi_file(tmp_path_factory, roll_TP, dt, repeats) -> None:
    path = tmp_path_factory.getbasetemp() / "roll.mid"
    codec = RollCodec((60, 65), dt, repeats)
    write_notes(codec.decode(roll_TP), path)
    np.testing.assert_array_equal(codec.encode(read_notes(path)), trimmed(roll_TP))


def test_midi_files_of_a_roll_give_the_same_roll(tmp_path: Path) -> None:
    codec = RollCodec(dt=0.125)
    write_notes(tune(1), tmp_path / "a.mid")
    roll_TP = codec.encode(read_notes(tmp_path / "a.mid"))
    assert len(roll_TP) == round(tune(1)["end"].max() / 0.125)
    write_notes(codec.decode(roll_TP), tmp_path / "b.mid")
    np.testing.assert_array_equal(codec.encode(read_notes(tmp_path / "b.mid")), roll_TP)


def test_no_notes() -> None:
    assert SMALL.encode(make_notes([])).shape == (0, 3)
    assert len(SMALL.decode(np.zeros((4, 3)))) == 0


@pytest.mark.parametrize("end", [60_000.0, 1e15])
def test_a_roll_that_is_too_long_is_refused_before_allocation(end: float) -> None:
    with pytest.raises(UserError, match=r"frames of dt=0.01 s, but a roll may have 200,000"):
        RollCodec(dt=0.01).encode(make_notes([(0.0, end, 60, 80)]))


def test_settings_as_plain_values() -> None:
    codec = RollCodec((30, 90), 0.2, "retrigger")
    assert RollCodec(**codec.to_dict()) == codec
    assert codec.spec == Rolls(60) == spec_from_dict(codec.spec.to_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pitch_range": (60, 60)}, r"pitch_range=\[60, 60\]"),
        ({"pitch_range": (60, 129)}, r"pitch_range=\[60, 129\]"),
        ({"dt": 0.0}, "dt=0.0: should be greater than or equal to 0.01"),
        ({"dt": float("nan")}, "dt=nan: should be"),
        ({"repeats": "tied"}, "repeats=tied: should be 'sustain' or 'retrigger'"),
    ],
)
def test_settings_out_of_range(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        RollCodec(**settings)


def eighths(path: Path, pitches: list[int], tempo: int) -> Path:
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)])
    for pitch in pitches:
        track.append(mido.Message("note_on", note=pitch))
        track.append(mido.Message("note_off", note=pitch, time=240))
    mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(path)
    return path


D_MAJOR = [62, 64, 66, 67, 69, 71, 73, 74, 74, 69, 66, 62]


@pytest.mark.parametrize("tempo", [300_000, 500_000, 1_234_567])
def test_a_file_is_read_on_the_grid_and_in_the_key_of_the_training_data(
    tempo: int, tmp_path: Path
) -> None:
    path = eighths(tmp_path / "a.mid", D_MAJOR, tempo)
    roll_TP = RollCodec(dt=0.2, frames_per_beat=2, common_key=True).read(path)
    assert (np.argwhere(roll_TP)[:, 1] + 21).tolist() == [p - 2 for p in D_MAJOR]
    assert len(roll_TP) == len(D_MAJOR)
    plain = RollCodec(dt=0.2)
    np.testing.assert_array_equal(plain.read(path), plain.encode(read_notes(path)))
    # The seconds are the file's own: five eighths, whatever a frame lasts. The key is that of the
    # whole file: its first notes alone would be taken for another one.
    five = RollCodec(dt=0.2, frames_per_beat=2, common_key=True).read(path, 2.5 * tempo / 1e6)
    np.testing.assert_array_equal(five, roll_TP[:5])


def test_the_beginning_of_a_file_with_two_tempos(tmp_path: Path) -> None:
    path = eighths(tmp_path / "a.mid", D_MAJOR, 500_000)
    file = mido.MidiFile(path)
    file.tracks[0].insert(9, mido.MetaMessage("set_tempo", tempo=1_000_000))
    file.save(path)  # four eighths of 0.25 s, then of 0.5 s
    codec = RollCodec(dt=0.1, frames_per_beat=2)
    assert [len(codec.read(path, s)) for s in (0.5, 1.0, 1.5, 2.0, 99.0)] == [2, 4, 5, 6, 12]


def test_a_codec_of_an_old_checkpoint() -> None:
    plain = {"pitch_range": [21, 109], "dt": 0.3, "repeats": "sustain"}
    assert RollCodec(**plain) == RollCodec()
    codec = RollCodec(frames_per_beat=4, common_key=True)
    assert RollCodec(**codec.to_dict()) == codec
    with pytest.raises(UserError, match="frames_per_beat=0"):
        RollCodec(frames_per_beat=0)


def test_key_profiles_are_music21s() -> None:
    discrete = pytest.importorskip("music21.analysis.discrete")
    for mode, weights in (("major", MAJOR), ("minor", MINOR)):
        assert list(weights) == pytest.approx(discrete.TemperleyKostkaPayne().getWeights(mode))
