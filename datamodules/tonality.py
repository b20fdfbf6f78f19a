"""Which key a piece is in, and how far from there to C."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


def semitones_to_c(notes: np.ndarray) -> int:
    """The shift, −5 to 6, that moves a piece's tonic to C: major to C major, minor to C minor.

    The key is that whose profile (Temperley, Kostka & Payne, from music21) correlates best with
    the seconds that each pitch class sounds (Krumhansl & Schmuckler's method).
    """
    seconds_P = np.bincount(
        notes["pitch"] % 12, weights=notes["end"] - notes["start"], minlength=12
    )
    if seconds_P.std() == 0:
        return 0
    tonic = int(np.argmax(_profiles() @ (seconds_P - seconds_P.mean()))) % 12
    return (5 - tonic) % 12 - 5


@lru_cache(maxsize=1)
def _profiles() -> np.ndarray:
    """(24, 12): twelve major and twelve minor keys' weights per pitch class, standardised."""
    from music21.analysis.discrete import TemperleyKostkaPayne

    weights = [TemperleyKostkaPayne().getWeights(mode) for mode in ("major", "minor")]
    keys = np.array([np.roll(w, tonic) for w in weights for tonic in range(12)])
    return (keys - keys.mean(1, keepdims=True)) / keys.std(1, keepdims=True)
