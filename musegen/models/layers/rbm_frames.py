"""The frames of conditional RBMs at a temperature: samples, some of their notes given, and log p.

A clamped visible unit is one whose bias is ±`CLAMP`. So an RBM with given notes is an RBM, too, and

    log p(given notes) = log Z(clamped) − CLAMP · (clamped notes that sound) + Σ of their biases
                         − log Z

Both log Z come from annealed importance sampling, so that these weights, and log p, are estimates.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from musegen.energy.ais import AnnealedRBM, anneal, log_z
from musegen.energy.conditional import ConditionalRBMs, estimate_log_prob, sample_frames
from musegen.energy.gibbs import GibbsChains
from musegen.models.layers.frame_sampler import Given

CLAMP = 50.0
"""e⁻⁵⁰ is the probability that a clamped note is another."""
CHAINS, AIS_STEPS = 20, 100
"""Annealed chains of each frame, and their steps, for log Z."""


class RBMFrames:
    """RBMs with the weights W; each frame has its own biases.

    Frames are drawn by Gibbs chains of `steps` steps from silence, or, if `ais_steps` is above 0,
    by annealing.
    """

    def __init__(
        self, W_DH: Tensor, temperature: float, steps: int, ais_steps: int, generator: Generator
    ) -> None:
        self.W_DH, self.temperature = W_DH / temperature, temperature
        self.steps, self.ais_steps, self.generator = steps, ais_steps, generator
        self._gibbs: GibbsChains | None = None

    def draw(
        self, b_v_ND: Tensor, b_h_NH: Tensor, given: Given | None
    ) -> tuple[Tensor, Tensor | None]:
        b_v_ND, b_h_NH = b_v_ND / self.temperature, b_h_NH / self.temperature
        if given is None:
            return self._sample(b_v_ND, b_h_NH), None
        log_weight_N = self._log_prob_of_notes(b_v_ND, b_h_NH, given.x_ND, given.weighed_ND)
        clamped_ND = _clamped(b_v_ND, given.x_ND, given.known_ND)
        x_ND = self._sample(clamped_ND, b_h_NH)
        return torch.where(given.known_ND, given.x_ND, x_ND), log_weight_N

    def log_prob(self, x_ND: Tensor, b_v_ND: Tensor, b_h_NH: Tensor) -> Tensor:
        biases = b_v_ND / self.temperature, b_h_NH / self.temperature
        rbms = ConditionalRBMs(self.W_DH, x_ND, *biases)
        return estimate_log_prob(rbms, CHAINS, AIS_STEPS, self.generator).log_prob_N

    def _sample(self, b_v_ND: Tensor, b_h_NH: Tensor) -> Tensor:
        silence_ND = torch.zeros_like(b_v_ND)
        if self.ais_steps:
            rbms = ConditionalRBMs(self.W_DH, silence_ND, b_v_ND, b_h_NH)
            return sample_frames(rbms, self.ais_steps, self.generator)
        if self._gibbs is None or not self._gibbs.fits(len(b_v_ND), b_v_ND.device):
            self._gibbs = GibbsChains(len(b_v_ND), self.W_DH)
        self._gibbs.set_visible(silence_ND, self.W_DH, b_h_NH, self.generator)
        # The chains write into one buffer, which the next frame overwrites.
        return self._gibbs.run(self.steps, self.W_DH, b_v_ND, b_h_NH, self.generator).clone()

    def _log_prob_of_notes(
        self, b_v_ND: Tensor, b_h_NH: Tensor, x_ND: Tensor, notes_ND: Tensor
    ) -> Tensor:
        """log p of some notes of each frame, (N,): 0 where there are none."""
        if not bool(notes_ND.any()):
            return b_v_ND.new_zeros(len(b_v_ND), dtype=torch.float64)
        clamped_ND = _clamped(b_v_ND, x_ND, notes_ND)
        extra_N = ((clamped_ND - b_v_ND) * x_ND * notes_ND).sum(-1, dtype=torch.float64)
        none_ND = torch.zeros_like(notes_ND)
        log_z_N = self._log_z(b_v_ND, b_h_NH, none_ND)
        return self._log_z(clamped_ND, b_h_NH, notes_ND) - extra_N - log_z_N

    def _log_z(self, b_v_ND: Tensor, b_h_NH: Tensor, clamped_ND: Tensor) -> Tensor:
        parts = []
        every = ConditionalRBMs(self.W_DH, torch.zeros_like(b_v_ND), b_v_ND, b_h_NH)
        clamped = iter(clamped_ND.split(len(every.blocks(CHAINS)[0])))
        for block in every.blocks(CHAINS):
            rbm = block.with_bases(self.generator)
            base_v = torch.where(next(clamped), rbm.b_v, rbm.base_v)  # annealing moves no clamp
            rbm = AnnealedRBM(*rbm[:3], base_v, rbm.base_h)
            log_w_NS = anneal(rbm, CHAINS, ((AIS_STEPS, 1.0),), self.generator).log_w_S
            parts.append(log_z(rbm, log_w_NS).value)
        return torch.cat(parts)


def _clamped(b_v_ND: Tensor, x_ND: Tensor, known_ND: Tensor) -> Tensor:
    return torch.where(known_ND, CLAMP * (2 * x_ND - 1), b_v_ND)
