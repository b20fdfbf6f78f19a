"""The key of a piece, and the transposition to C."""

from __future__ import annotations

import numpy as np

MAJOR = (0.748, 0.060, 0.488, 0.082, 0.670, 0.460, 0.096, 0.715, 0.104, 0.366, 0.057, 0.400)
MINOR = (0.712, 0.084, 0.474, 0.618, 0.049, 0.460, 0.105, 0.747, 0.404, 0.067, 0.133, 0.330)
"""Weights of the twelve pitch classes from the tonic up (Temperley, Kostka-Payne corpus)."""


def semitones_to_c(notes: np.ndarray) -> int:
    """The transposition, −5 to 6 semitones, that moves the tonic to C.

    A piece in major goes to C major, a piece in minor to C minor. The key is the one whose profile
    has the highest correlation with the seconds that each pitch class sounds (the method of
    Krumhansl and Schmuckler).
    """
    fit_K = _fit(notes)
    return 0 if fit_K is None else (5 - int(np.argmax(fit_K)) % 12) % 12 - 5


def is_minor(notes: np.ndarray) -> bool:
    """Whether notes with the tonic C are in C minor rather than in C major."""
    fit_K = _fit(notes)
    return fit_K is not None and bool(fit_K[12] > fit_K[0])


def _fit(notes: np.ndarray) -> np.ndarray | None:
    """How well the notes fit each key of `PROFILES`; None if all keys fit equally."""
    seconds_P = np.bincount(
        notes["pitch"] % 12, weights=notes["end"] - notes["start"], minlength=12
    )
    if seconds_P.std() == 0:
        return None
    fit_K: np.ndarray = PROFILES @ (seconds_P - seconds_P.mean())
    return fit_K


def transposed(notes: np.ndarray, semitones: int) -> np.ndarray:
    """The notes transposed by `semitones`, without those outside MIDI's range."""
    pitch = notes["pitch"].astype(int) + semitones
    inside = (pitch >= 0) & (pitch < 128)
    result = notes[inside]
    result["pitch"] = pitch[inside]
    return result


def _profiles() -> np.ndarray:
    """(24, 12): the standardised weights of twelve major keys, then of twelve minor keys."""
    keys = np.array([np.roll(w, tonic) for w in (MAJOR, MINOR) for tonic in range(12)])
    standardised: np.ndarray = (keys - keys.mean(1, keepdims=True)) / keys.std(1, keepdims=True)
    return standardised


PROFILES = _profiles()
