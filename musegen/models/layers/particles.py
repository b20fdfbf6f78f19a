"""Particles: several continuations of a piece, sampled side by side.

- A particle in which a chord or a note is held too long (`musegen.models.layers.hold_limits`) is
  replaced by a copy of another particle of the same piece, chosen at random. If all of them hold
  too long, the notes are released. So generation cannot get stuck on one chord or one note.
- A critic may choose among the particles as well (`musegen.models.layers.critic_weights`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor

from musegen.models.layers.critic_weights import CriticWeights
from musegen.models.layers.frame_sampler import FrameSampler
from musegen.models.layers.hold_limits import HoldLimits, Holds
from musegen.models.layers.repeated_frames import draw_repeating
from musegen.models.layers.roll_critic import RollCritic
from musegen.runtime.progress import track


class Follower(Protocol):
    """What is kept for each of N sequences."""

    def select(self, row_N: Tensor) -> None:
        """Let sequence n continue what was sequence row_N[n]."""


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
