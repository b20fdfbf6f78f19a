"""Bars and the clock: hand-made scores with upbeats and changes of time signature."""

from __future__ import annotations

from pathlib import Path

import mido
import numpy as np
import pytest

from musegen.codecs.messages import MessageCodec
from musegen.codecs.meter import bar_ticks, signature_of
from musegen.codecs.midi import read_score
from musegen.errors import UserError

CODEC = MessageCodec(time_unit="beats")


def score(path: Path, *events: tuple[float, str, object]) -> Path:
    """A file of (beat, kind, value) events: a quarter note, a time signature or a tempo."""
    messages: list[tuple[float, int, dict]] = []
    for beat, kind, value in events:
        if kind == "note":
            messages.append((beat, 2, {"type": "note_on", "note": value}))
            messages.append((beat + 1, 1, {"type": "note_on", "note": value, "velocity": 0}))
        elif kind == "bar":
            numerator, denominator = value  # type: ignore[misc]
            signature = {"numerator": numerator, "denominator": denominator}
            messages.append((beat, 0, {"type": "time_signature", **signature}))
        else:
            messages.append((beat, 0, {"type": "set_tempo", "tempo": value}))
    track, clock = mido.MidiTrack(), 0
    for beat, _, message in sorted(messages, key=lambda m: m[:2]):
        meta = message["type"] != "note_on"
        tick = round(beat * 96)
        track.append((mido.MetaMessage if meta else mido.Message)(**message, time=tick - clock))
        clock = tick
    mido.MidiFile(ticks_per_beat=96, tracks=[track]).save(path)
    return path


def clock(path: Path) -> list[list[int]]:
    stream = CODEC.read(path)
    return CODEC.clock(stream, CODEC.encode(stream)).tolist()


def test_the_place_of_each_message_in_its_bar(tmp_path: Path) -> None:
    path = score(
        tmp_path / "a.mid", (0, "bar", (3, 4)), (1, "note", 60), (2.5, "note", 62),
        (6, "bar", (6, 8)), (7, "note", 64),
    )  # fmt: skip
    # onset, release, onset, release at beats 1, 2, 2.5, 3.5; the last note at 7 and 8
    assert clock(path) == [[24, 72], [48, 72], [60, 72], [12, 72], [24, 72], [48, 72]]
    assert CODEC.read(path)["time"].tolist() == pytest.approx([1, 1, 0.5, 1, 3.5, 1])


def test_a_piece_without_a_time_signature_is_in_4_4(tmp_path: Path) -> None:
    path = score(tmp_path / "a.mid", (5.25, "note", 60))
    assert clock(path) == [[30, 96], [54, 96]]
    assert CODEC.read(path)["time"].tolist() == pytest.approx([1.25, 1])  # from the bar line before


def test_an_upbeat_is_the_end_of_a_bar(tmp_path: Path) -> None:
    path = score(
        tmp_path / "a.mid", (0, "bar", (4, 4)), (0, "note", 60), (1, "bar", (4, 4)), (1, "note", 62)
    )
    assert clock(path) == [[72, 96], [0, 96], [0, 96], [24, 96]]
    again = score(  # the same after a first part of one bar of 2/4
        tmp_path / "b.mid", (0, "bar", (2, 4)), (2, "bar", (4, 4)), (2, "note", 60),
        (3, "bar", (4, 4)), (3, "note", 62),
    )  # fmt: skip
    assert clock(again) == [[72, 96], [0, 96], [0, 96], [24, 96]]


def test_a_new_time_signature_starts_a_bar(tmp_path: Path) -> None:
    path = score(tmp_path / "a.mid", (0, "note", 60), (6, "bar", (2, 4)), (6, "note", 60),
                 (8.5, "bar", (2, 4)), (9, "note", 62))  # fmt: skip
    assert clock(path) == [[0, 96], [24, 96], [0, 48], [24, 48], [12, 48], [36, 48]]


def test_the_tempo_is_kept_apart(tmp_path: Path) -> None:
    slow = score(tmp_path / "a.mid", (0, "tempo", 1_000_000), (0, "note", 60), (1, "note", 62))
    fast = score(tmp_path / "b.mid", (0, "tempo", 250_000), (0, "note", 60), (1, "note", 62))
    np.testing.assert_array_equal(CODEC.encode(CODEC.read(slow)), CODEC.encode(CODEC.read(fast)))
    assert [read_score(p).seconds_per_beat for p in (slow, fast)] == [1.0, 0.25]
    assert len(read_score(slow, seconds=1.0).notes) == 1


def test_a_file_without_beats_is_refused(tmp_path: Path) -> None:
    path = score(tmp_path / "a.mid", (0, "note", 60))
    data = path.read_bytes()
    path.write_bytes(data[:12] + b"\xe7\x28" + data[14:])  # 25 frames per second of 40 ticks
    with pytest.raises(UserError, match=r"a\.mid: has SMPTE time and no beats"):
        CODEC.read(path)


@pytest.mark.parametrize(
    ("signature", "ticks", "back"),
    [((4, 4), 96, (4, 4)), ((3, 4), 72, (3, 4)), ((6, 8), 72, (3, 4)), ((3, 8), 36, (3, 8)),
     ((2, 2), 96, (4, 4)), ((7, 16), 42, (7, 16))],
)  # fmt: skip
def test_time_signatures_and_ticks(signature: tuple, ticks: int, back: tuple) -> None:
    assert bar_ticks(signature) == ticks
    assert signature_of(ticks) == back


def test_an_empty_score_is_an_empty_stream(tmp_path: Path) -> None:
    path = score(tmp_path / "a.mid", (0, "bar", (3, 4)))
    stream = CODEC.read(path)
    assert (
        len(stream) == len(CODEC.encode(stream)) == len(CODEC.clock(stream, CODEC.encode(stream)))
    )
