"""Exact samples of the frames of a `BiaxialLSTM`, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from musegen.models.layers.frame_sampler import FrameSampler, Given

if TYPE_CHECKING:
    from musegen.models.biaxial_lstm import BiaxialLSTM


MAX_FRAMES = 2048
"""Number of frames whose log p is computed together."""


class BiaxialSampler(FrameSampler):
    """Exact samples of the frames of a `BiaxialLSTM`."""

    def __init__(
        self, model: BiaxialLSTM, rows: int, steps: int, temperature: float, generator: Generator
    ) -> None:
        self.model, self.temperature, self.generator = model, temperature, generator
        self.x_NTD = model.embed.weight.new_zeros(rows, steps, model.spec.pitches)
        self.u_NTR = self.x_NTD.new_zeros(rows, steps, model.state_width)
        self.past, self.t = model.start(rows), -1
        self._advance(torch.zeros_like(self.x_NTD[:, :1]))  # a silent frame before the first one

    def draw(self, given: Given | None = None) -> tuple[Tensor, Tensor]:
        r_1NZ = None
        if self.model.attention is not None:
            r_1NZ = self.model.attention.step(self.t, self.u_NTR, self.x_NTD)[None]
        c_NPC = self.model.context(self.h, self.e, self.u_NTR[:, self.t][None], r_1NZ)[0]
        sample = self.model.frame_distribution.sample
        x_1ND, log_prob_1N = sample(c_NPC, 1, self.temperature, self.generator, given)
        return x_1ND[0], log_prob_1N[0]

    def longest_match(self) -> tuple[Tensor, Tensor] | None:
        if self.model.match is None or self.past.before_BSD is None:
            return None
        level_N1, match_N1D = self.model.match.finder(self.past.before_BSD, 1)
        return level_N1[:, 0], match_N1D[:, 0]

    def append(self, frame_ND: Tensor) -> None:
        self.x_NTD[:, self.t] = frame_ND
        self._advance(self.x_NTD[:, self.t, None])

    def _advance(self, before_N1D: Tensor) -> None:
        """Run the LSTMs along time over frame t, and let t be the next one."""
        self.t += 1
        self.h, self.e, u_1NR, self.past = self.model.along_time(before_N1D, self.past, self.t)
        if self.t < self.u_NTR.shape[1]:
            self.u_NTR[:, self.t] = u_1NR[0]

    def select(self, row_N: Tensor) -> None:
        self.x_NTD, self.u_NTR = self.x_NTD[row_N], self.u_NTR[row_N]
        self.h, self.e = self.h[:, row_N], self.e[:, row_N]
        self.past = self.past.select(row_N)

    def log_prob(self, x_NFD: Tensor) -> Tensor:
        width = max(1, MAX_FRAMES // max(1, x_NFD.shape[1]))
        if len(x_NFD) > width:
            rows = torch.arange(len(x_NFD), device=x_NFD.device).split(width)
            return torch.cat([self.fork(row_M).log_prob(x_NFD[row_M]) for row_M in rows])
        model, t = self.model, self.t
        h_FBPH, e_FBPE, u_FBR, _ = model.along_time(x_NFD, self.past, t + 1)
        u_FBR = torch.cat([self.u_NTR[:, t][None], u_FBR[:-1]])
        r_FBZ = None
        if model.attention is not None:
            known = slice(max(0, t - model.attention.span), t)
            u_BSR = torch.cat([self.u_NTR[:, known], u_FBR.transpose(0, 1)], dim=1)
            x_BSD = torch.cat([self.x_NTD[:, known], x_NFD], dim=1)
            first = t - known.start
            r_FBZ = model.attention(u_BSR[:, first:], u_BSR, x_BSD, first).transpose(0, 1)
        h_FBPH, e_FBPE = torch.cat([self.h, h_FBPH[:-1]]), torch.cat([self.e, e_FBPE[:-1]])
        c_FBPC = model.context(h_FBPH, e_FBPE, u_FBR, r_FBZ)
        log_prob = model.frame_distribution.log_prob
        x_FBD = x_NFD.transpose(0, 1)
        log_prob_M = log_prob(c_FBPC.flatten(0, 1), x_FBD.flatten(0, 1), self.temperature)
        return log_prob_M.unflatten(0, x_FBD.shape[:2]).t()
