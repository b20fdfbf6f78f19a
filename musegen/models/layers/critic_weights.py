"""Particles that are chosen by a critic: generated pieces that are nearer to real ones.

Several continuations of a piece, its particles, are samples of the model. The critic weighs them by
exp(z) (`musegen.models.layers.roll_critic`). They are resampled with these weights every `BLOCK`
frames, and one of them is chosen at the end: sequential Monte Carlo with the target
p_model(x) exp(z(x)). With more particles the result is nearer to it; with one it is p_model.
"""

from __future__ import annotations

import torch
from torch import Tensor

from musegen.models.layers.frame_sampler import FrameSampler
from musegen.models.layers.roll_critic import RollCritic

BLOCK = 16
"""Frames between two resamplings. Phrases of this length can be told from real ones."""
ENOUGH = 0.7
"""Particles are not resampled while the effective number of them is at least this fraction."""


class CriticWeights:
    """The weights of the particles of each piece: `particles` successive sequences of a sampler."""

    def __init__(self, critic: RollCritic, sampler: FrameSampler, particles: int) -> None:
        self.critic, self.sampler, self.particles = critic, sampler, particles
        self.read, self.state_1NH = 0, None
        self.z_N = sampler.x_NTD.new_zeros(len(sampler.x_NTD))
        self.z_before_N = self.z_N.clone()
        """z when the particles were resampled last; what came before is common to a piece."""

    def select(self, row_N: Tensor) -> None:
        """Let sequence n continue what was sequence row_N[n]."""
        self.z_N, self.z_before_N = self.z_N[row_N], self.z_before_N[row_N]
        if self.state_1NH is not None:
            self.state_1NH = self.state_1NH[:, row_N].contiguous()

    def row_of_particles(self) -> Tensor | None:
        """What to `select` before the next frame, (N,); None for no change."""
        if self.sampler.t % BLOCK:
            return None
        weight_KP = self._weights()
        sums_KP = weight_KP.cumsum(1)
        few_K1 = 1 / (weight_KP**2).sum(1, keepdim=True) < ENOUGH * self.particles
        # Systematic resampling: one uniform number for all particles of a piece.
        size = len(weight_KP), 1
        uniform_K1 = torch.rand(size, generator=self.sampler.generator, device=sums_KP.device)
        at_KP = (uniform_K1 + torch.arange(self.particles, device=sums_KP.device)) / self.particles
        chosen_KP = torch.searchsorted(sums_KP, at_KP * sums_KP[:, -1:])
        chosen_KP = chosen_KP.clamp_max(self.particles - 1)
        row_KP = torch.arange(weight_KP.numel(), device=sums_KP.device).unflatten(
            0, (-1, self.particles)
        )
        row_N = torch.where(few_K1, row_KP[:, :1] + chosen_KP, row_KP).flatten()
        few_N = few_K1.expand_as(row_KP).flatten()
        self.z_before_N = torch.where(few_N, self.z_N, self.z_before_N)
        return row_N

    def row_of_pieces(self) -> Tensor:
        """What to `select` at the end, (N,): one particle of each piece, for all of its rows."""
        chosen_K1 = torch.multinomial(self._weights(), 1, generator=self.sampler.generator)
        first_K1 = torch.arange(len(chosen_K1), device=chosen_K1.device)[:, None] * self.particles
        return (first_K1 + chosen_K1).expand(-1, self.particles).flatten()

    def _weights(self) -> Tensor:
        """The weights of the particles, (K, P), which add up to 1 for each piece."""
        if self.read < self.sampler.t:
            x_NTD = self.sampler.x_NTD[:, : self.sampler.t]
            z_NT, self.state_1NH = self.critic(x_NTD, self.read, self.state_1NH)
            self.z_N, self.read = z_NT[:, -1], self.sampler.t
        log_weight_N = self.z_N - self.z_before_N
        return log_weight_N.unflatten(0, (-1, self.particles)).softmax(1)
