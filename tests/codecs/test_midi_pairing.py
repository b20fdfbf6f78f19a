"""Which release ends which note: repeated notes, missing releases, pedals, all notes off."""

from __future__ import annotations

from pathlib import Path

import mido
import numpy as np
import pytest
from conftest import make_notes
from hypothesis import given
from hypothesis import strategies as st

from musegen.codecs.messages import messages_to_notes, notes_to_messages
from musegen.codecs.midi import read_notes, read_prime
from musegen.codecs.roll_codec import RollCodec

ON, OFF = 1, 0
QUARTERS = [(0.0, 0.5, 60), (0.5, 1.0, 60), (1.0, 1.5, 60), (1.5, 2.0, 60)]


def save(path: Path, *tracks: list[tuple[int, mido.Message]]) -> Path:
    """Write tracks of (tick, message), with 1,000 ticks per second, in the given order."""
    file = mido.MidiFile(ticks_per_beat=500)
    for events in tracks:
        clock, messages = 0, mido.MidiTrack()
        for tick, message in events:
            messages.append(message.copy(time=tick - clock))
            clock = tick
        file.tracks.append(messages)
    file.save(path)
    return path


def note(kind: int, pitch: int = 60, channel: int = 0) -> mido.Message:
    return mido.Message("note_on", note=pitch, velocity=80 * kind, channel=channel)


def control(number: int, value: int = 0, channel: int = 0) -> mido.Message:
    return mido.Message("control_change", control=number, value=value, channel=channel)


def events_of(*pairs: tuple[int, int], channel: int = 0) -> list[tuple[int, mido.Message]]:
    return [(tick, note(kind, channel=channel)) for tick, kind in pairs]


def read(path: Path, **settings) -> list[tuple[float, float, int]]:
    notes = read_notes(path, **settings)
    return [(round(n["start"], 6), round(n["end"], 6), int(n["pitch"])) for n in notes]


def quarters(overlap: int, channel: int = 0) -> list[tuple[int, mido.Message]]:
    """Four quarter notes C. Each release is `overlap` ticks after the onset of the next note."""
    onsets = [(500 * i, 0, ON) for i in range(4)]
    releases = [(500 * i + overlap, 1, OFF) for i in range(1, 4)] + [(2000, 1, OFF)]
    return events_of(*((t, k) for t, _, k in sorted(onsets + releases)), channel=channel)


@pytest.mark.parametrize("overlap", [0, 1, 5, 62, 200, 499])
def test_a_late_release_does_not_end_the_next_note(overlap: int, tmp_path: Path) -> None:
    path = save(tmp_path / "a.mid", quarters(overlap))
    assert read(path) == QUARTERS
    assert read_prime(path, 1.25)["end"].tolist() == [0.5, 1.0, 1.25]
    stream = notes_to_messages(read_notes(path))
    assert messages_to_notes(stream)[["start", "end", "pitch"]].tolist() == QUARTERS
    for overlapping in (False, True):
        roll_TP = RollCodec((60, 61), 0.125).encode(read_notes(path, overlapping=overlapping))
        assert roll_TP.tolist() == [[1]] * 16


def test_channels_that_repeat_each_other(tmp_path: Path) -> None:
    """C on channels 1 and 2 in turn, each released a little after the other channel's onset."""
    order = [
        (0, note(ON, channel=0)), (500, note(ON, channel=1)), (505, note(OFF, channel=0)),
        (1000, note(ON, channel=0)), (1000, note(OFF, channel=1)),
        (1500, note(ON, channel=1)), (1505, note(OFF, channel=0)), (2000, note(OFF, channel=1)),
    ]  # fmt: skip
    assert read(save(tmp_path / "one.mid", order)) == QUARTERS
    halves = [[e for e in order if e[1].channel == c] for c in (0, 1)]
    assert read(save(tmp_path / "two.mid", *halves)) == QUARTERS
    both = save(tmp_path / "both.mid", quarters(5), quarters(5, channel=1), quarters(0))
    assert read(both) == QUARTERS


def test_a_note_within_another_note_of_the_same_pitch(tmp_path: Path) -> None:
    """A channel with two voices: the pitch sounds until its last release."""
    path = save(tmp_path / "a.mid", events_of((0, ON), (500, ON), (1000, OFF), (2000, OFF)))
    assert read(path) == [(0.0, 0.5, 60), (0.5, 2.0, 60)]


def test_the_last_release_of_legato_notes_is_missing(tmp_path: Path) -> None:
    """The missing release does not make the other notes five ticks long."""
    events = [*quarters(5)[:-1], (2000, note(OFF, 61))]
    assert read(save(tmp_path / "a.mid", events)) == QUARTERS


def test_a_missing_release_makes_one_note_longer(tmp_path: Path) -> None:
    events = events_of(
        (0, ON), (500, ON), (800, OFF), (1000, ON), (1300, OFF), (1500, ON), (1800, OFF)
    )
    expected = [(0.0, 0.5, 60), (0.5, 0.8, 60), (1.0, 1.3, 60), (1.5, 1.8, 60)]
    assert read(save(tmp_path / "a.mid", events)) == expected


def test_an_extra_release_later_does_not_hide_a_missing_one(tmp_path: Path) -> None:
    """Twenty notes of 0.3 s, two per second. The first has no release, the last has two."""
    pairs = [(0, ON)]
    for i in range(1, 20):
        pairs += [(500 * i, ON), (500 * i + 300, OFF)]
    events = events_of(*pairs, (9900, OFF))
    assert read(save(tmp_path / "a.mid", events))[1:] == [
        (0.5 * i, 0.5 * i + 0.3, 60) for i in range(1, 20)
    ]


def test_a_long_group_of_overlapping_notes(tmp_path: Path) -> None:
    """Each note is released 40 % after the next onset, as music trackers write notes."""
    onsets = [(500 * i, ON) for i in range(40)]
    releases = [(500 * i + 700, OFF) for i in range(40)]
    notes = read(save(tmp_path / "a.mid", events_of(*sorted(onsets + releases))))
    assert notes[:-1] == [(0.5 * i, 0.5 * i + 0.5, 60) for i in range(39)]
    assert notes[-1] == (19.5, 20.2, 60)


def test_grace_notes_with_the_release_first(tmp_path: Path) -> None:
    """music21 writes grace notes so. Each of these two ends at the next onset."""
    events = events_of(
        (0, OFF), (0, ON), (100, ON), (400, OFF), (500, OFF), (500, ON), (600, ON), (900, OFF)
    )
    expected = [(0.0, 0.1, 60), (0.1, 0.4, 60), (0.5, 0.6, 60), (0.6, 0.9, 60)]
    assert read(save(tmp_path / "a.mid", events)) == expected


def test_a_release_before_each_onset_is_ignored(tmp_path: Path) -> None:
    """Some programs release a pitch before every onset, whether it sounds or not."""
    events = events_of((0, OFF), (0, ON), (300, OFF), (500, OFF), (500, ON), (800, OFF), (900, OFF))
    assert read(save(tmp_path / "a.mid", events)) == [(0.0, 0.3, 60), (0.5, 0.8, 60)]


@pytest.mark.parametrize("number", [120, 123, 124, 125, 126, 127])
def test_messages_that_end_the_notes_of_a_channel(number: int, tmp_path: Path) -> None:
    events = [
        (0, note(ON)), (0, note(ON, 64)), (0, note(ON, 67, channel=1)), (500, control(number)),
        (700, note(OFF, 64)), (1000, note(ON, 62)), (1500, note(OFF, 62)),
        (2000, note(OFF, 67, channel=1)),
    ]  # fmt: skip
    assert read(save(tmp_path / "a.mid", events)) == [
        (0.0, 0.5, 60), (0.0, 0.5, 64), (0.0, 2.0, 67), (1.0, 1.5, 62)
    ]  # fmt: skip


def test_all_notes_off_applies_to_all_tracks_of_the_channel(tmp_path: Path) -> None:
    path = save(tmp_path / "a.mid", [(0, note(ON)), (2000, note(OFF))], [(500, control(123))])
    assert read(path) == [(0.0, 0.5, 60)]


def test_all_notes_off_ends_overlapping_notes(tmp_path: Path) -> None:
    events = [
        *events_of((0, ON), (500, ON)),
        (900, control(123)),
        *events_of((1000, ON), (1200, OFF)),
    ]
    path = save(tmp_path / "a.mid", [*events, (2000, note(OFF, 61))])
    assert read(path) == [(0.0, 0.5, 60), (0.5, 0.9, 60), (1.0, 1.2, 60)]


def test_the_pedal_and_messages_that_end_notes(tmp_path: Path) -> None:
    """All notes off keeps pedalled notes; all sound off ends them; reset releases the pedal."""
    down = [(0, control(64, 127)), (0, note(ON))]
    rest = [(2000, note(ON, 62)), (2500, note(OFF, 62)), (3000, control(64, 0))]
    for number, end in ((123, 3.0), (120, 0.5), (121, 3.0)):
        path = save(tmp_path / "a.mid", [*down, (500, control(number)), *rest])
        assert read(path, sustain=True)[0] == (0.0, end, 60), number
    released = [*down, (300, note(OFF)), (500, control(121)), *rest]
    assert read(save(tmp_path / "a.mid", released), sustain=True)[0] == (0.0, 0.5, 60)
    released = [*down, (300, note(OFF)), (500, control(120)), *rest]
    path = save(tmp_path / "a.mid", released)
    assert read(path, sustain=True) == [(0.0, 0.5, 60), (2.0, 3.0, 62)]


def test_legato_with_the_pedal_down(tmp_path: Path) -> None:
    events = [(0, control(64, 127)), *quarters(5), (3000, control(64, 0))]
    assert read(save(tmp_path / "a.mid", events), sustain=True) == [*QUARTERS[:3], (1.5, 3.0, 60)]


melodies = st.lists(
    st.tuples(st.integers(1, 400), st.integers(0, 300), st.integers(0, 300)), max_size=30
)


@given(parts=st.lists(melodies, min_size=1, max_size=3), onsets_first=st.booleans())
def test_any_melody_is_read_back(parts, onsets_first: bool, tmp_path_factory) -> None:
    """Notes are (length, gap before, overlap with the next note); each part has its own pitch.

    The notes are read back, and each ends at the next onset at the latest. The order of onsets
    and releases within a tick and the length of the overlap, up to half of the next note, make no
    difference.
    """
    tracks, expected = [], []
    for part, melody in enumerate(parts):
        events, clock = [], 0
        for i, (length, gap, overlap) in enumerate(melody):
            clock += gap
            more = (
                0
                if i + 1 == len(melody) or melody[i + 1][1]
                else min(overlap, (melody[i + 1][0] - 1) // 2)
            )
            events += [(clock, onsets_first, ON), (clock + length + more, not onsets_first, OFF)]
            expected.append((clock / 1000, (clock + length) / 1000, 60 + part, 80))
            clock += length
        order = sorted(events, key=lambda e: (e[0], -e[1]))
        tracks.append([(tick, note(kind, 60 + part, part)) for tick, _, kind in order])
    path = save(tmp_path_factory.getbasetemp() / "line.mid", *tracks)
    expected_notes = make_notes(expected)
    order = np.lexsort((expected_notes["pitch"], expected_notes["start"]))
    expected_notes = expected_notes[order]
    notes = read_notes(path)
    assert notes[["pitch", "velocity"]].tolist() == expected_notes[["pitch", "velocity"]].tolist()
    for column in ("start", "end"):
        np.testing.assert_allclose(notes[column], expected_notes[column], atol=1e-9)
