"""Particles and hold limits: generation that cannot get stuck on one chord or one note.

Several continuations of a piece, its particles, are sampled side by side. A particle in which a
chord or a note is held longer than in nearly all training pieces is replaced by a copy of another
particle of the same piece, chosen at random. If all of them hold too long, the notes are released.
A critic may choose among the particles as well (`musegen.models.layers.critic_weights`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from musegen.models.layers.critic_weights import CriticWeights
from musegen.models.layers.frame_sampler import FrameSampler
from musegen.models.layers.note_age import note_ages
from musegen.models.layers.repeated_frames import draw_repeating
from musegen.models.layers.roll_critic import RollCritic
from musegen.runtime.progress import track

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


class Follower(Protocol):
    """What is kept for each of N sequences."""

    def select(self, row_N: Tensor) -> None:
        """Let sequence n continue what was sequence row_N[n]."""


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


def continue_pieces(
    sampler: FrameSampler,
    prime_TD: Tensor,
    limits: HoldLimits | None,
    particles: int,
    low_pitches: int,
    repeat_odds: float = 1.0,
    critic: RollCritic | None = None,
    after_frame: Callable[[], None] = lambda: None,
) -> None:
    """Fill the sampler's sequences: with the prime, then with sampled frames.

    `repeat_odds` is that of `draw_repeating`. With a critic, the particles of a piece are resampled
    by it, and in the end all of them are the one that was chosen. `after_frame` is called after
    each sampled frame.
    """
    for frame_D in prime_TD.to(sampler.x_NTD):
        sampler.append(frame_D.expand(len(sampler.x_NTD), -1))
    primed, steps = len(prime_TD), sampler.x_NTD.shape[1]
    holds = Holds(sampler.x_NTD[:, :primed], low_pitches, limits) if limits else None
    weights = CriticWeights(critic, sampler, particles) if critic is not None else None
    followers: list[Follower] = [sampler, *(f for f in (holds, weights) if f is not None)]
    for _ in track(range(primed, steps), "generating", "frames"):
        row_N = weights.row_of_particles() if weights is not None else None
        if row_N is not None:
            select_all(followers, row_N)
        frame_ND = draw_repeating(sampler, repeat_odds)
        if holds is not None:
            frame_ND = within_limits(frame_ND, holds, particles, sampler.generator, followers)
            holds.append(frame_ND)
        sampler.append(frame_ND)
        after_frame()
    if weights is not None:
        select_all(followers, weights.row_of_pieces())


def select_all(followers: Sequence[Follower], row_N: Tensor) -> None:
    """Let sequence n of each follower continue what was sequence row_N[n]."""
    for follower in followers:
        follower.select(row_N)


def within_limits(
    frame_ND: Tensor,
    holds: Holds,
    particles: int,
    generator: Generator,
    followers: Sequence[Follower],
) -> Tensor:
    """The next frames, (N, D), after particles that would hold too long were replaced.

    The particles of a piece are `particles` successive sequences.
    """
    long_ND = holds.held_too_long(frame_ND)
    stuck_KP = long_ND.any(1).unflatten(0, (-1, particles))
    if not bool(stuck_KP.any()):
        return frame_ND
    # Every particle continues a free one of its piece; a free one continues itself. Where no
    # particle is free, each continues itself, and its long notes are released.
    row_KP = torch.arange(len(frame_ND), device=frame_ND.device).unflatten(0, (-1, particles))
    weight_KP = (~stuck_KP).double()
    weight_KP[stuck_KP.all(1)] = 1
    free_KP = torch.multinomial(weight_KP, particles, replacement=True, generator=generator)
    replace_KP = stuck_KP & ~stuck_KP.all(1, keepdim=True)
    row_N = torch.where(replace_KP, row_KP.gather(1, free_KP), row_KP).flatten()
    select_all(followers, row_N)
    return frame_ND[row_N].masked_fill(long_ND[row_N], 0)
