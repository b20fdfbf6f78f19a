"""A region of a piece: a stretch of time × pitches, without the voice that is kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from musegen.codecs.midi import NOTES
from musegen.errors import UserError

Keep = Literal["none", "melody", "bass"]
SURPRISE = np.dtype([("start", "f8"), ("end", "f8"), ("pitch", "i2"), ("nll", "f8")])
"""A frame or a note: its seconds, its pitch (−1 for a whole frame), and −log p in nats."""
SAME_TIME = 1e-6
"""Times that differ by less are equal, in seconds."""


def checked_notes(notes: np.ndarray) -> np.ndarray:
    """The notes. Raises `UserError` for an array of something else, and for one without notes."""
    if notes.dtype != NOTES or notes.ndim != 1:
        raise UserError("notes: should be an array of musegen.codecs.midi.NOTES")
    if not len(notes):
        raise UserError("notes: there are none; a new piece is made by generate")
    times = np.concatenate([notes["start"], notes["end"]])
    if not (np.isfinite(times).all() and times.min() >= 0):
        raise UserError("notes: all times should be finite, and 0 or later")
    return notes


@dataclass(frozen=True)
class Region:
    """Where notes are written again: `start` ≤ seconds < `end` and `low` ≤ pitch ≤ `high`.

    A note belongs to the region if it starts there. Of these, `keep` stays: the notes that are the
    highest (`melody`) or lowest (`bass`) of all in the middle of their time. New notes are then
    below the melody, or above the bass.
    """

    start: float
    end: float
    low: int = 0
    high: int = 127
    keep: Keep = "none"

    def __str__(self) -> str:
        keep = "" if self.keep == "none" else f" keep={self.keep}"
        return f"region=[{self.start:g},{self.end:g}] pitches=[{self.low},{self.high}]{keep}"

    def check(self, notes: np.ndarray) -> None:
        """Raises `UserError` for a region without length or pitches, or outside the piece."""
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise UserError(f"{self}: the times should be finite")
        if not 0 <= self.start < self.end:
            raise UserError(f"{self}: the region should start at 0 s or later, and end after that")
        if not 0 <= self.low <= self.high <= 127:
            raise UserError(f"{self}: the pitches should satisfy 0 ≤ low ≤ high ≤ 127")
        if self.start >= (length := float(notes["end"].max())):
            raise UserError(
                f"{self}: is outside the piece, which ends at {length:g} s; prime= continues it"
            )

    def holds(self, notes: np.ndarray) -> np.ndarray:
        """Which notes start in the region, whether they are kept or not."""
        start, pitch = notes["start"] + SAME_TIME, notes["pitch"]
        in_time = (start >= self.start) & (start < self.end)
        inside: np.ndarray = in_time & (pitch >= self.low) & (pitch <= self.high)
        return inside

    def kept(self, notes: np.ndarray) -> np.ndarray:
        """Which notes are the voice that is kept, anywhere in the piece."""
        if self.keep == "none":
            return np.zeros(len(notes), bool)
        # At its start a legato note may still be covered by the one before.
        at, height = (notes["start"] + notes["end"]) / 2, self._height(notes)
        sounds = zip(at, height, strict=True)
        kept = [height[_sounding(notes, t)].max(initial=own) == own for t, own in sounds]
        return np.array(kept, bool)

    def limits(self, notes: np.ndarray, at_A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest pitch of new notes at these times, (A,) each.

        While the kept voice rests, they are those of its note before the rest.
        """
        low_A, high_A = np.full(len(at_A), self.low), np.full(len(at_A), self.high)
        voice = notes[self.kept(notes)]
        if not len(voice):
            return low_A, high_A
        voice = voice[np.argsort(voice["start"], kind="stable")]
        height = self._height(voice)
        before_A = np.searchsorted(voice["start"], at_A + SAME_TIME, side="right") - 1
        last_A = height[before_A.clip(0)]
        silent = -128
        sounds = [height[_sounding(voice, t)].max(initial=silent) for t in at_A + SAME_TIME]
        limit_A = np.where(np.array(sounds) > silent, sounds, last_A)
        if self.keep == "melody":
            return low_A, np.minimum(high_A, limit_A - 1)
        return np.maximum(low_A, 1 - limit_A), high_A

    def _height(self, notes: np.ndarray) -> np.ndarray:
        """What is greatest for the voice that is kept."""
        pitch = notes["pitch"].astype(int)
        return pitch if self.keep == "melody" else -pitch


def _sounding(notes: np.ndarray, time: float) -> np.ndarray:
    sounding: np.ndarray = (notes["start"] <= time) & (notes["end"] > time)
    return sounding
