"""Scores in beats ↔ message streams, and the place of each message in its bar.

The clock of a message is (place, length): ticks since the last bar line, and ticks of the bar, with
`TICKS` ticks per quarter note. The clock of the messages so far is known before the next one, so a
model may read it.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from musegen.codecs.midi import Score
from musegen.codecs.time_grid import TICKS

COMMON_BAR = 4 * TICKS
"""A bar of 4/4."""


def bars_of_messages(score: Score, at: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The bars of messages at the beats `at` (T,), sorted: (bar line, origin_T, length_T).

    The bar line is the last one before the first message, in beats of the file. `origin_T` is where
    the bars of a message's time signature are counted from, in beats after that bar line.
    """
    which_T = np.searchsorted(score.bars["start"], at + 1e-6, side="right") - 1
    origin_T, length_T = (score.bars[column][which_T] for column in ("origin", "length"))
    bar_line = 0.0
    if len(at):
        bar_line = origin_T[0] + np.floor((at[0] - origin_T[0]) / length_T[0] + 1e-6) * length_T[0]
    return bar_line, origin_T - bar_line, length_T


def clock_of(ticks_T: np.ndarray, origin_T: np.ndarray, length_T: np.ndarray) -> np.ndarray:
    """The clock (T, 2) int64 of messages at `ticks_T`, whose bars are given in beats."""
    bar_T = np.maximum(1, np.round(length_T * TICKS)).astype(np.int64)
    place_T = (ticks_T - np.round(origin_T * TICKS).astype(np.int64)) % bar_T
    return np.stack([place_T, bar_T], axis=1)


def bar_ticks(signature: tuple[int, int]) -> int:
    """The ticks of a bar: (3, 4) → 72."""
    return max(1, round(4 * TICKS * Fraction(*signature)))


def signature_of(bar: int) -> tuple[int, int]:
    """The time signature of a bar of so many ticks, in quarters if possible: 72 → (3, 4)."""
    parts = next((d for d in (4, 8, 16) if bar % (4 * TICKS // d) == 0), 32)
    return max(1, round(bar * parts / (4 * TICKS))), parts
