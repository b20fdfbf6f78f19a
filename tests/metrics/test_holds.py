"""Holds by hand, and those of the Nottingham tunes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import make_notes

from datamodules.roll_benchmark import RollBenchmark
from musegen.metrics.holds import (
    hazard,
    hold_counts,
    hold_lengths,
    long_note_time,
    longest_note,
    low_holds,
    sounding_time,
)

FRAME = 0.3


def roll(rows: list[tuple[int, int, int]]) -> np.ndarray:
    """(first frame, end frame, pitch) as notes."""
    return make_notes([(FRAME * a, FRAME * b, p, 80) for a, b, p in sorted(rows)])


def test_the_longest_note_and_the_time_under_long_ones() -> None:
    notes = make_notes([(0, 1, 60, 80), (1, 6, 64, 80), (3, 8, 67, 80), (8, 10, 60, 80)])
    assert longest_note(notes, None) == 5
    assert long_note_time(notes, None) == pytest.approx(7 / 10)  # the union of 1–6 and 3–8
    frames = roll([(0, 16, 60), (16, 33, 62), (33, 40, 64)])
    assert longest_note(frames, FRAME) == 17
    assert long_note_time(frames, FRAME) == pytest.approx(17 / 40)
    assert long_note_time(frames[:1], FRAME) == 0
    assert sounding_time(notes[:0]) == 0


def test_low_holds() -> None:
    """C3 for 20 frames, E3 joins after 4 of them; then nothing low, then C3 again. Middle C is not
    low, and the melody does not end a hold."""
    notes = roll([(0, 20, 48), (4, 20, 52), (0, 3, 72), (3, 60, 60), (50, 60, 48)])
    low = low_holds(notes, FRAME)
    assert low.frames_S.tolist() == [4, 16, 30, 10]
    assert low.sounding_S.tolist() == [True, True, False, True]
    assert low.longest() == 16
    assert low.long_time() == 0
    assert low.sounding() == pytest.approx(30 / 60)
    stuck = low_holds(roll([(0, 17, 48), (0, 20, 72)]), FRAME)
    assert stuck.long_time() == pytest.approx(17 / 20)
    assert low_holds(roll([(0, 5, 72)]), FRAME).longest() == 0


def test_hazard_of_a_roll() -> None:
    """Stretches of 4, 16 and 30 frames end, one of 10 is cut by the end of the piece."""
    notes = roll([(0, 20, 48), (4, 20, 52), (50, 60, 48), (20, 60, 72)])
    ended_A, reached_A = hold_counts(notes, FRAME)
    assert {int(a) + 1 for a in np.flatnonzero(ended_A)} == {4, 16, 30}
    assert [int(reached_A[a - 1]) for a in (1, 4, 5, 10, 11, 16, 17, 30, 31)] == [
        4, 4, 3, 3, 2, 2, 1, 1, 0,
    ]  # fmt: skip
    hazards = hazard(hold_counts(notes, FRAME))
    assert hazards[3] == pytest.approx(1 / 4)
    assert hazards[15] == pytest.approx(1 / 2)
    assert np.isnan(hazards[30])
    lengths = hold_lengths(hold_counts(notes, FRAME))
    assert lengths[[3, 15, 29]] == pytest.approx([1 / 4, 3 / 8, 3 / 8])
    assert lengths.sum() == pytest.approx(1)


def test_hazard_without_frames_is_that_of_notes() -> None:
    """Eighths of a second: lengths 2, 2 and 1; the last note is cut by the end."""
    notes = make_notes(
        [(0, 0.25, 60, 80), (0.25, 0.5, 62, 80), (0.5, 0.6, 64, 80), (0.6, 2, 65, 80)]
    )
    ended_A, reached_A = hold_counts(notes, None)
    assert ended_A[:3].tolist() == [1, 2, 0]
    assert reached_A[:4].tolist() == [4, 3, 1, 1]


@pytest.mark.real_data
def test_holds_of_the_nottingham_tunes(real_data: Path) -> None:
    """The reference: the first 256 frames of a tune hold what is below middle C for 16 frames at
    the longest (median), one of them for 128; a change is most likely after whole bars."""
    data = RollBenchmark("Nottingham", root=real_data / "icml2012")
    data.setup()
    pieces = [data.to_notes(roll_TP) for roll_TP in data.rolls["train"]]
    first = [data.to_notes(roll_TP[:256]) for roll_TP in data.rolls["train"]]
    longest = [low_holds(notes, data.frame).longest() for notes in first]
    assert np.median(longest) == 16
    assert np.quantile(longest, 0.95) == 36
    assert max(longest) == 128
    hazards = hazard(np.sum([hold_counts(notes, data.frame) for notes in pieces], axis=0))
    for age, expected in ((3, 0.01), (6, 0.33), (8, 0.48), (12, 0.25), (16, 0.36), (24, 0.49),
                          (32, 0.33), (48, 0.21)):  # fmt: skip
        assert hazards[age - 1] == pytest.approx(expected, abs=0.02), age
