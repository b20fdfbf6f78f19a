"""Message streams: hand-made events, round trips of the codec, decoding of any classes."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_notes, tune
from hypothesis import given
from hypothesis import strategies as st

from musegen.codecs.messages import MESSAGES, MessageCodec, messages_to_notes, notes_to_messages
from musegen.codecs.midi import tidy
from musegen.errors import UserError
from musegen.specs import Messages

CODECS = [
    MessageCodec(),
    MessageCodec(velocity_bins=127),
    MessageCodec(pitch_range=(24, 103), time_scale="linear", time_bins=10, time_max=1.0),
    MessageCodec(pitch_range=(0, 128), velocity_bins=1, time_bins=2),
    MessageCodec(time_unit="beats"),
    MessageCodec(time_unit="beats", time_bins=30),
]


def stream(*rows: tuple[int, int, float]) -> np.ndarray:
    return np.array(list(rows), MESSAGES)


def test_at_equal_times_releases_come_first() -> None:
    notes = make_notes([(0.0, 0.5, 60, 80), (0.0, 0.5, 64, 70), (0.5, 1.0, 60, 90)])
    expected = stream((60, 80, 0), (64, 70, 0), (60, 0, 0.5), (64, 0, 0), (60, 90, 0), (60, 0, 0.5))
    np.testing.assert_array_equal(notes_to_messages(notes), expected)


def test_the_first_message_has_time_0() -> None:
    assert notes_to_messages(make_notes([(9.0, 10.0, 60, 80)]))["time"].tolist() == [0.0, 1.0]


def test_notes_and_messages_are_inverse() -> None:
    notes = tidy(tune(1))
    back = messages_to_notes(notes_to_messages(notes))
    np.testing.assert_array_equal(back[["pitch", "velocity"]], notes[["pitch", "velocity"]])
    np.testing.assert_allclose(back["end"], notes["end"] - notes["start"][0], atol=1e-5)


def test_release_of_a_silent_pitch_repeated_onset_and_unreleased_note() -> None:
    notes = messages_to_notes(
        stream((70, 0, 0.0), (60, 80, 0.5), (60, 90, 0.5), (62, 50, 1.0), (62, 0, 1.0))
    )
    expected = make_notes([(0.5, 1.0, 60, 80), (1.0, 3.0, 60, 90), (2.0, 3.0, 62, 50)])
    np.testing.assert_array_equal(notes, expected)


def test_empty_stream() -> None:
    assert len(messages_to_notes(stream())) == 0
    assert MessageCodec().encode(stream()).shape == (0, 3)


def test_course_time_scale() -> None:
    codec = MessageCodec(time_scale="linear", time_bins=10, time_max=1.0)
    alone = [int(codec.grid.classes(np.array([t]))[0]) for t in (0, 0.03, 0.099, 0.101, 0.95, 30)]
    assert alone == [0, 1, 1, 2, 10, 10]
    assert codec.decode(np.array([[0, 0, 3]]))["time"][0] == pytest.approx(0.25)


def test_the_default_time_scale_distinguishes_short_and_long_times() -> None:
    codec = MessageCodec()
    seconds = np.array([0.0, 0.005, 0.02, 0.025, 0.25, 0.3, 2.0, 2.5, 8.0, 100.0])
    classes = np.array([int(codec.grid.classes(t[None])[0]) for t in seconds])
    assert (np.diff(classes[:-1]) > 0).all()
    assert classes[-1] == classes[-2] == codec.spec.times - 1
    within = seconds[1:-1]
    decoded = codec.decode(np.stack([classes * 0, classes * 0, classes], 1))["time"][1:-1]
    assert np.abs(np.log(decoded / within)).max() < 0.07


def test_only_velocity_0_has_class_0() -> None:
    for codec in CODECS:
        classes = codec.encode(stream(*[(60, v, 0.1) for v in range(128)]))[:, 1]
        assert classes[0] == 0
        assert classes[1] == 1
        assert (classes[1:] > 0).all()
        assert classes.max() == codec.spec.velocities - 1


def test_full_velocity_resolution_is_exact() -> None:
    codec = MessageCodec(velocity_bins=127)
    whole = stream(*[(60, v, 0.0) for v in range(128)])
    np.testing.assert_array_equal(codec.quantise(whole)["velocity"], np.arange(128))


def test_the_time_of_messages_out_of_range_is_added_to_the_next() -> None:
    codec = MessageCodec(pitch_range=(60, 70))
    kept = codec.in_range(stream((60, 80, 0.0), (20, 80, 0.5), (20, 0, 0.5), (60, 0, 1.0)))
    np.testing.assert_array_equal(kept, stream((60, 80, 0.0), (60, 0, 2.0)))


def test_spec_and_plain_settings() -> None:
    assert MessageCodec().spec == Messages(88, 33, 128)
    assert MessageCodec(time_unit="beats").spec == Messages(88, 33, 64, 24)
    for codec in CODECS:
        assert MessageCodec(**codec.to_dict()) == codec


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"pitch_range": (60, 60)}, "pitch_range"),
        ({"pitch_range": (0, 129)}, "pitch_range"),
        ({"velocity_bins": 128}, "velocity_bins"),
        ({"time_scale": "square"}, "time_scale"),
        ({"time_bins": 1}, "time_bins"),
        ({"time_min": 2.0, "time_max": 1.0}, "time_min"),
    ],
)
def test_settings_out_of_range(settings: dict, named: str) -> None:
    with pytest.raises(UserError, match=f"{named}=.*: should"):
        MessageCodec(**settings)


codecs = st.sampled_from(CODECS)
messages = st.lists(
    st.tuples(st.integers(0, 127), st.integers(0, 127), st.floats(0, 20, width=32)), max_size=60
)


@given(codecs, messages)
def test_encode_and_decode_are_an_inverse_pair(codec: MessageCodec, rows) -> None:
    classes = codec.encode(stream(*rows))
    assert (classes >= 0).all()
    assert (classes < np.array(codec.spec.sizes)).all()
    np.testing.assert_array_equal(codec.encode(codec.decode(classes)), classes)
    quantised = codec.quantise(stream(*rows))
    np.testing.assert_array_equal(codec.quantise(quantised), quantised)
    kept = codec.in_range(stream(*rows))
    np.testing.assert_array_equal(quantised["note"], kept["note"])
    smallest = codec.grid.values[1]
    assert (quantised["time"][kept["time"] == 0] == 0).all()
    assert (quantised["time"][kept["time"] >= smallest] > 0).all()
    np.testing.assert_array_equal(quantised["velocity"] == 0, kept["velocity"] == 0)


@given(codecs, messages)
def test_the_clock_drifts_by_at_most_half_a_bin(codec: MessageCodec, rows) -> None:
    """Half of the longest bin so far; a time beyond the last class is cut off first."""
    kept = codec.in_range(stream(*rows))
    values = codec.grid.values
    longest = values[-1]
    kept["time"] = kept["time"].clip(max=longest)
    classes = codec.grid.classes(kept["time"])
    drift = np.abs(np.cumsum(values[classes]) - np.cumsum(kept["time"]))
    half = np.r_[0.0, np.maximum(values[1:] - codec.grid.edges, 0)]
    half[:-1] = np.maximum(half[:-1], codec.grid.edges - values[:-1])
    so_far = np.maximum.accumulate(np.maximum(half[classes], codec.grid.edges[0]))
    assert (drift <= so_far + 1e-6).all()


def test_a_pause_beyond_the_last_class_is_shortened_and_the_carried_error_kept() -> None:
    grid = MessageCodec(time_unit="beats").grid  # up to 27 beats; 1.3 becomes 1.25
    classes = grid.classes(np.array([1.3, 40.0, 1.2]))
    assert grid.values[classes].tolist() == [1.25, 27.0, 1.25]


def test_rounding_errors_are_carried() -> None:
    """Four sixths of a beat each, with quarters as the grid above one beat."""
    codec = MessageCodec(time_unit="beats")
    thirds = np.full(6, 4 / 3)
    assert (codec.grid.values[codec.grid.classes(thirds)] * 4).tolist() == [5, 6, 5, 5, 6, 5]
    assert codec.grid.classes(np.array([1 / 24, 1 / 3, 1.0, 1.25, 4.5, 9.0])).tolist() == [
        1, 8, 24, 25, 37, 45
    ]  # fmt: skip


@given(codecs, st.data())
def test_any_classes_decode_to_valid_notes(codec: MessageCodec, data) -> None:
    sizes = codec.spec.sizes
    fields = st.tuples(*[st.integers(0, n - 1) for n in sizes])
    classes = np.array(data.draw(st.lists(fields, min_size=1, max_size=60)))
    notes = messages_to_notes(codec.decode(classes))
    np.testing.assert_array_equal(tidy(notes), notes)
    assert np.isfinite(notes["end"]).all()
    assert (notes["velocity"] > 0).all()
    assert not len(notes) or notes["end"].max() <= codec.decode(classes)["time"].sum() + 1e-3
