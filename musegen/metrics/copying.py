"""How much of a piece is copied from the training pieces: runs of notes at any transposition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from musegen.metrics.music import in_chords
from musegen.runtime.random_streams import Stream, random_stream

RUN = 8
"""Notes of a run whose occurrence in training is counted."""
INTERVALS = 255
"""The possible intervals from a note to the next one: −127 … 127 semitones."""
MULTIPLIER = 0x9E3779B97F4A7C15
"""Of the hash. It is odd, and therefore has an inverse modulo 2⁶⁴."""


class Runs:
    """The runs of notes of pieces, as hashes of their intervals.

    The notes of a piece are in the order of (onset, pitch); onsets within 30 ms are one chord, as
    in `musegen.metrics.music`. A run of L notes is given by the L − 1 intervals between them: so
    it is the same at any transposition, and its rhythm does not count. The hash of intervals
    v(i) … is Σ_j r(v(i + j)) M^j modulo 2⁶⁴ with random numbers r, computed for all i from the
    running sums of r(v(i)) M^i.
    """

    def __init__(self, pieces: Sequence[np.ndarray]) -> None:
        pitches = [in_chords(piece)["pitch"].astype(int) for piece in pieces]
        intervals = [np.diff(p) for p in pitches]
        self.pieces = np.repeat(np.arange(len(intervals)), [len(v) for v in intervals])
        """The piece of each interval."""
        self.left = np.concatenate(
            [np.zeros(0, int), *(np.arange(len(v), 0, -1) for v in intervals)]
        )
        """The number of intervals from each one to the end of its piece."""
        value = np.concatenate([np.zeros(0, int), *intervals])
        random = random_stream(Stream.MUSIC_OVERLAP, 0, 2).integers(0, 2**64, INTERVALS, np.uint64)
        power = _powers(MULTIPLIER, len(value))
        self._sums = np.r_[np.zeros(1, np.uint64), np.cumsum(random[value + 127] * power)]
        self._inverse = _powers(pow(MULTIPLIER, -1, 2**64), len(value))

    def starts(self, length: int, among: np.ndarray | None = None) -> np.ndarray:
        """The places (`among` some) where a run of `length` notes fits into its piece."""
        places = np.arange(len(self.left)) if among is None else among
        fitting: np.ndarray = places[self.left[places] >= length - 1]
        return fitting

    def hashes(self, starts: np.ndarray, length: int) -> np.ndarray:
        """The hashes of the runs of `length` notes from these places."""
        difference: np.ndarray = self._sums[starts + length - 1] - self._sums[starts]
        hashes: np.ndarray = difference * self._inverse[starts]
        return hashes


def found_share(pieces: Sequence[np.ndarray], training: Runs) -> tuple[int, int]:
    """(found, all): the runs of `RUN` notes of the pieces, and how many occur in training."""
    runs = Runs(pieces)
    starts = runs.starts(RUN)
    found, _ = _common(runs.hashes(starts, RUN), training.hashes(training.starts(RUN), RUN))
    return int(found.sum()), len(starts)


def longest_runs(pieces: Sequence[np.ndarray], training: Runs) -> np.ndarray:
    """For each piece the largest number of successive notes that occur in training.

    Every part of a run that occurs does too. So the lengths 2, 4, 8, … are tried first, then
    those between the last two by bisection.
    """
    runs = Runs(pieces)
    low = np.array([min(len(piece), 1) for piece in pieces])
    high = np.array([len(piece) + 1 for piece in pieces])
    length, places = 1, training.starts(2)
    candidates = {length: places}
    while (low == length).any():
        length *= 2
        found, places = _occurring(runs, training, length, places)
        low[found] = length
        candidates[length] = places
        high[low < length] = np.minimum(high[low < length], length)
    while (open_pieces := np.flatnonzero(high - low > 1)).size:
        middle = (low + high) // 2
        for length in np.unique(middle[open_pieces]):
            # A training run of this length starts with one of the largest power of 2 up to it.
            places = candidates[max(k for k in candidates if k <= length)]
            found, _ = _occurring(runs, training, int(length), places)
            tried = open_pieces[middle[open_pieces] == length]
            inside = np.isin(tried, found)
            low[tried[inside]], high[tried[~inside]] = length, length
    return low


def _occurring(
    runs: Runs, training: Runs, length: int, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The pieces with a run of `length` notes that is in training, and where it is in training."""
    starts, places = runs.starts(length), training.starts(length, places)
    found, occurs = _common(runs.hashes(starts, length), training.hashes(places, length))
    return np.unique(runs.pieces[starts[found]]), places[occurs]


def _common(few: np.ndarray, many: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which elements of each array are in the other. Only the smaller one is sorted."""
    if not len(few):
        return np.zeros(0, bool), np.zeros(len(many), bool)
    unique, position = np.unique_inverse(few)
    at = np.minimum(np.searchsorted(unique, many), len(unique) - 1)
    in_few = unique[at] == many
    in_many = np.zeros(len(unique), bool)
    in_many[at[in_few]] = True
    return in_many[position], in_few


def _powers(base: int, count: int) -> np.ndarray:
    """base⁰, base¹, … modulo 2⁶⁴."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    return np.cumprod(factors)
