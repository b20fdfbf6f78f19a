"""Hold limits: how long a note and a chord may be held in generated pieces.

The limits are the longest holds of nearly all training pieces. What becomes of a continuation that
holds longer: `musegen.models.layers.particles`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from musegen.models.layers.note_age import note_ages

HOLD_QUANTILE = 0.999
"""The fraction of the training holds that are not longer than their limit."""


class HoldLimits(NamedTuple):
    """The longest holds that are accepted, in frames: of one note, and of a chord.

    The chord of a frame is its notes below middle C, or all its notes if none is below.
    """

    note: int
    chord: int


def hold_limits(rolls: Sequence[np.ndarray], low_pitches: int) -> HoldLimits:
    """The `HOLD_QUANTILE` quantiles of the holds in rolls of 0 and 1, (T, D) each."""
    notes, chords = [np.ones(1, int)], [np.ones(1, int)]
    for roll_TD in rolls:
        padded_TD = np.pad(np.asarray(roll_TD) > 0, ((1, 1), (0, 0)))
        change_DT = np.diff(padded_TD.astype(np.int8), axis=0).T
        notes.append(np.nonzero(change_DT < 0)[1] - np.nonzero(change_DT > 0)[1])
        chord_TD = padded_TD[1:-1].copy()
        chord_TD[chord_TD[:, :low_pitches].any(1), low_pitches:] = False
        starts = np.flatnonzero(np.r_[True, (chord_TD[1:] != chord_TD[:-1]).any(1)])
        lengths = np.diff(np.r_[starts, len(chord_TD)])
        chords.append(lengths[chord_TD[starts].any(1)])
    quantiles = (np.quantile(np.concatenate(h), HOLD_QUANTILE) for h in (notes, chords))
    return HoldLimits(*(int(np.ceil(q)) for q in quantiles))


class Holds:
    """How long each note and each chord of N sequences has been held so far, in frames."""

    def __init__(self, x_NTD: Tensor, low_pitches: int, limits: HoldLimits) -> None:
        """x_NTD are the frames so far, perhaps none."""
        self.low_pitches, self.limits = low_pitches, limits
        self.note_ND = x_NTD.new_zeros(len(x_NTD), x_NTD.shape[2], dtype=torch.int64)
        self.chord_N = x_NTD.new_zeros(len(x_NTD), dtype=torch.int64)
        self.before_ND = x_NTD.new_zeros(len(x_NTD), x_NTD.shape[2])
        for frame_ND in x_NTD.unbind(1):
            self.append(frame_ND)

    def append(self, frame_ND: Tensor) -> None:
        self.note_ND = note_ages(frame_ND[:, None], self.note_ND)[:, 0]
        chord_ND = self._chord(frame_ND)
        same_N = (chord_ND == self._chord(self.before_ND)).all(1) & chord_ND.any(1)
        self.chord_N = torch.where(same_N, self.chord_N + 1, chord_ND.any(1).long())
        self.before_ND = frame_ND

    def select(self, row_N: Tensor) -> None:
        self.note_ND, self.chord_N = self.note_ND[row_N], self.chord_N[row_N]
        self.before_ND = self.before_ND[row_N]

    def held_too_long(self, frame_ND: Tensor) -> Tensor:
        """The notes of the next frame that would be held longer than the limits, (N, D) bool."""
        sounds_ND = frame_ND > 0
        long_note_ND = sounds_ND & (self.note_ND >= self.limits.note)
        chord_ND = self._chord(frame_ND)
        same_N = (chord_ND == self._chord(self.before_ND)).all(1)
        long_chord_N = same_N & (self.chord_N >= self.limits.chord)
        return long_note_ND | (long_chord_N[:, None] & chord_ND)

    def _chord(self, frame_ND: Tensor) -> Tensor:
        sounds_ND = frame_ND > 0
        below_ND = sounds_ND.clone()
        below_ND[:, self.low_pitches :] = False
        return torch.where(below_ND.any(1, keepdim=True), below_ND, sounds_ND)
