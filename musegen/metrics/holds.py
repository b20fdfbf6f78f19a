"""How long notes last, and how long the same notes sound below middle C: holds, hazard by age."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from musegen.codecs.midi import MIDDLE_C

LONG_SECONDS, LONG_FRAMES = 4.0, 16
"""A note of more than four seconds is long; in a piano-roll more than 16 frames are."""
SHORT_UNIT = 0.125
"""Seconds. The unit of the ages of notes that are on no grid of frames."""
MAX_AGE = 64
"""The last age with a hazard of its own."""


def longest_note(notes: np.ndarray, frame: float | None) -> float:
    """The longest note, in seconds, or in frames of `frame` seconds."""
    longest = float((notes["end"] - notes["start"]).max())
    return longest if frame is None else float(round(longest / frame))


def long_note_time(notes: np.ndarray, frame: float | None) -> float:
    """The fraction of the time, from 0 to the last release, in which a long note sounds.

    A note is long if it lasts more than `LONG_SECONDS`, or more than `LONG_FRAMES` frames. All of
    it counts, also its first seconds.
    """
    limit = LONG_SECONDS if frame is None else (LONG_FRAMES + 0.5) * frame
    long_notes = notes[notes["end"] - notes["start"] > limit]
    return sounding_time(long_notes) / float(notes["end"].max())


def sounding_time(notes: np.ndarray) -> float:
    """Seconds during which at least one note sounds. The notes are sorted by start."""
    reached = np.maximum.accumulate(np.r_[0.0, notes["end"][:-1]])[: len(notes)]
    return float(np.maximum(0.0, notes["end"] - np.maximum(notes["start"], reached)).sum())


class LowHolds(NamedTuple):
    """The stretches of frames in which the same notes sound below middle C, in order."""

    frames_S: np.ndarray
    sounding_S: np.ndarray
    """False where no note sounds below middle C."""

    def longest(self) -> float:
        """The frames of the longest stretch in which something sounds; 0 if nothing does."""
        return float(self.frames_S[self.sounding_S].max(initial=0))

    def long_time(self) -> float:
        """The fraction of frames in stretches, not silent, of more than `LONG_FRAMES` frames."""
        long_S = self.sounding_S & (self.frames_S > LONG_FRAMES)
        return float(self.frames_S[long_S].sum() / self.frames_S.sum())

    def sounding(self) -> float:
        """The fraction of frames in which something sounds below middle C."""
        return float(self.frames_S[self.sounding_S].sum() / self.frames_S.sum())


def low_holds(notes: np.ndarray, frame: float) -> LowHolds:
    """The stretches of a piano-roll with frames of `frame` seconds, from 0 to the last release."""
    first_N, stop_N = (np.round(notes[c] / frame).astype(int) for c in ("start", "end"))
    low_TP = np.zeros((int(stop_N.max()), MIDDLE_C), bool)
    for first, stop, pitch in zip(first_N, stop_N, notes["pitch"], strict=True):
        if pitch < MIDDLE_C:
            low_TP[first:stop, pitch] = True
    changes_T = np.r_[True, (low_TP[1:] != low_TP[:-1]).any(1)]
    first_S = np.flatnonzero(changes_T)
    return LowHolds(np.diff(np.r_[first_S, len(low_TP)]), np.any(low_TP[first_S], axis=1))


def hold_counts(notes: np.ndarray, frame: float | None) -> np.ndarray:
    """(2, A): how many holds ended at age 1 … `MAX_AGE`, and how many reached it.

    The holds of a piano-roll are the stretches of `low_holds`, silent ones included, in frames.
    Those of other pieces are the notes, in units of `SHORT_UNIT`, rounded up. What lasts to the
    end of the piece was cut there: it reaches its age and does not end.
    """
    if frame is None:
        length_S = np.ceil((notes["end"] - notes["start"]) / SHORT_UNIT - 1e-6).astype(int)
        ended_S = notes["end"] < notes["end"].max()
    else:
        length_S = low_holds(notes, frame).frames_S
        ended_S = np.arange(len(length_S)) < len(length_S) - 1
    length_S = np.clip(length_S, 1, MAX_AGE + 1)
    ended_A = np.bincount(length_S[ended_S], minlength=MAX_AGE + 2)[1:-1]
    lasted_A = np.bincount(length_S, minlength=MAX_AGE + 2)[1:]
    reached_A = np.cumsum(lasted_A[::-1])[::-1][:-1]
    return np.stack([ended_A, reached_A])


def hazard(counts_2A: np.ndarray) -> np.ndarray:
    """h(a) = ended(a) / reached(a): the probability that a hold of age a ends then; NaN for 0/0."""
    ended_A, reached_A = counts_2A
    return np.where(reached_A > 0, ended_A / np.maximum(reached_A, 1), np.nan)


def hold_lengths(counts_2A: np.ndarray) -> np.ndarray:
    """(A + 1,): the probability of each length, p(a) = h(a) Π_{b<a} (1 − h(b)); the rest is longer.

    From the hazards, so that holds that were cut do not count as short ones (Kaplan & Meier 1958).
    """
    hazard_A = np.nan_to_num(hazard(counts_2A))
    survival_A = np.cumprod(1 - hazard_A)
    before_A = np.r_[1.0, survival_A[:-1]]
    probability: np.ndarray = np.r_[hazard_A * before_A, survival_A[-1]]
    return probability
