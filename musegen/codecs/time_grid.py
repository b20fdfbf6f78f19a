"""Times between messages ↔ classes, with the rounding error carried to the next message.

If each time were rounded alone, the errors would add up, and after a minute a piece would have
lost its beat. Here the absolute time is rounded: what one class is too short or too long is added
to the next time.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from musegen.codecs import midi_compiled

TICKS = 24
"""Ticks per quarter note of the grid in beats: sixteenths are 6, triplet eighths 8."""
EXACT = 1e-6
"""Times that differ by less are equal."""


@dataclass(frozen=True)
class TimeGrid:
    """The times of the classes: `values` (V,), class 0 is 0, and the edges between them, (V − 1,).

    An edge belongs to the class below it. Class 0 ends at half of the smallest time.
    """

    values: np.ndarray
    edges: np.ndarray

    def classes(self, times: np.ndarray) -> np.ndarray:
        """(T,) times since the previous message → (T,) int64 classes.

        The sum of the classes' times differs from the sum of `times` by at most half of the class
        of the last message, or of a longer one before it whose error is still to be made up for.
        Messages at the same time remain so, and a time of at least the smallest class never becomes
        0. What a time is longer than the last class is lost.
        """
        nearest: np.ndarray = np.searchsorted(self.edges, times)
        if (np.abs(self.values[nearest] - times) < EXACT).all():
            return nearest
        compiled = midi_compiled.carried_classes(times, self.values, self.edges)
        return np.array(self._carried(times), np.int64) if compiled is None else compiled

    def _carried(self, times: np.ndarray) -> list[int]:
        values, edges = self.values.tolist(), self.edges.tolist()
        carried, result = 0.0, []
        for time in np.minimum(times, values[-1]).tolist():
            k = 0
            if time > 0:
                k = bisect_left(edges, time + carried)
                if k == 0 and time >= values[1]:
                    k = 1
                carried += time - values[k]
            result.append(k)
        return result


def log_grid(bins: int, smallest: float, largest: float) -> TimeGrid:
    """Times in a geometric sequence; an edge is the geometric mean of its neighbours."""
    values = np.geomspace(smallest, largest, bins)
    return TimeGrid(np.r_[0.0, values], np.r_[smallest / 2, np.sqrt(values[1:] * values[:-1])])


def linear_grid(bins: int, largest: float) -> TimeGrid:
    """The centres of equal bins from 0 to the largest time."""
    values = (np.arange(bins) + 0.5) * largest / bins
    return TimeGrid(np.r_[0.0, values], np.r_[values[0] / 2, (values[1:] + values[:-1]) / 2])


def beat_grid(bins: int) -> TimeGrid:
    """Beats: twenty-fourths up to 1, quarters up to 4, halves up to 8, then whole beats."""
    ticks = np.r_[np.arange(1, 24), np.arange(24, 96, 6), np.arange(96, 192, 12)]
    whole = 192 + 24 * np.arange(max(0, bins - len(ticks)))
    values = np.r_[0, ticks, whole][: bins + 1] / TICKS
    return TimeGrid(values, (values[1:] + values[:-1]) / 2)
