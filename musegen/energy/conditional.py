"""How likely frames are under RBMs of their own, as the RNN-RBM's: one W, biases frame by frame.

Each frame's log Z comes from annealed importance sampling (`musegen.energy.ais`). Any base gives
an unbiased estimate of Z; a good one needs few ais_steps. Here it is, machine by machine,
independent units with the machine's own marginals, which short Gibbs chains estimate that share
nothing with the annealing: a = logit E[v], d = logit E[h]. By mean field a = b + W E[h] and
d = c + E[v] W, so that the means stay where they are at every β. Short chains miss modes, and a
base too sure of itself would keep annealing from them: a share of the base is blunt.

Too few ais_steps flatter (`forward_ais`), so `converged` raises their number until the mean
hardly moves. Shapes: N frames, S chains each, taken in blocks of bounded size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from musegen.energy.ais import AnnealedRBM, anneal, log_z, reverse_ais
from musegen.energy.gibbs import GibbsChains
from musegen.metrics.accuracy import frame_accuracy

MAX_CHAINS = {"cpu": 2_000, "cuda": 200_000}
"""Chains that run side by side; on a CPU as many as its cache holds."""
BASE_CHAINS, BASE_STEPS = 20, 25
"""Chains per frame for the base's marginals; as many steps are forgotten as are averaged."""
BASE_SMOOTHING = 0.3
"""The share of a base's probabilities that is alike for all frames of a block, and for hidden
units one half."""
CHAINS_PER_SAMPLE = 10
"""Annealed chains that one drawn frame is chosen from."""
MIN_AIS_STEPS, STEPS_FACTOR = 100, 3
"""Temperatures that `converged` begins with, and what it multiplies them by."""


@dataclass(frozen=True)
class ConditionalRBMs:
    """Binary frames x_ND, each with the biases of its own machine."""

    W_DH: Tensor
    x_ND: Tensor
    b_v_ND: Tensor
    b_h_NH: Tensor

    def __len__(self) -> int:
        return len(self.x_ND)

    def select(self, frames: Tensor | slice) -> ConditionalRBMs:
        """Some of the frames."""
        parts = (t[frames] for t in (self.x_ND, self.b_v_ND, self.b_h_NH))
        return ConditionalRBMs(self.W_DH, *parts)

    def blocks(self, chains: int) -> Iterator[ConditionalRBMs]:
        """All frames, so many at once as memory is meant for with `chains` chains each."""
        width = max(1, MAX_CHAINS[self.x_ND.device.type] // chains)
        return (self.select(slice(i, i + width)) for i in range(0, len(self), width))

    def gibbs(self, chains: int, steps: int, generator: Generator) -> Iterator[GibbsChains]:
        """Chains from v = 0, `chains` rows for each frame, as they stand after each step."""
        b_v, b_h = (b.repeat_interleave(chains, 0) for b in (self.b_v_ND, self.b_h_NH))
        run = GibbsChains(len(b_v), self.W_DH)
        run.set_visible(torch.zeros_like(b_v), self.W_DH, b_h, generator)
        for _ in range(steps):
            run.run(1, self.W_DH, b_v, b_h, generator)
            yield run

    def with_bases(self, generator: Generator) -> AnnealedRBM:
        """What AIS needs: the machines, and bases with their marginals."""
        sum_v, sum_h = torch.zeros_like(self.b_v_ND), torch.zeros_like(self.b_h_NH)
        for step, run in enumerate(self.gibbs(BASE_CHAINS, 2 * BASE_STEPS, generator)):
            if step >= BASE_STEPS:
                sum_v += run.p_BD.unflatten(0, (len(self), -1)).sum(1)
                sum_h += run.p_BH.unflatten(0, (len(self), -1)).sum(1)
        mean_v, mean_h = (s / (BASE_CHAINS * BASE_STEPS) for s in (sum_v, sum_h))
        base_v = torch.lerp(mean_v, mean_v.mean(0), BASE_SMOOTHING).clamp(1e-4, 1 - 1e-4)
        base_h = torch.lerp(mean_h, torch.full_like(mean_h, 0.5), BASE_SMOOTHING)
        return AnnealedRBM(self.W_DH, self.b_v_ND, self.b_h_NH, base_v.logit(), base_h.logit())


class Estimate(NamedTuple):
    """Of each frame: log p(x) in nats, the standard error that its AIS leaves, the accuracy."""

    log_prob_N: Tensor
    error_N: Tensor
    accuracy_N: Tensor


@torch.no_grad()
def estimate_log_prob(
    frames: ConditionalRBMs, chains: int, ais_steps: int, generator: Generator
) -> Estimate:
    """log p(x) = −F(x) − log Z by forward AIS, on average too high, and ACC by the same chains.

    The accuracy of the protocol is expected over samples of the frame's machine. Plain Gibbs
    chains do not get about in machines so sure of themselves; annealed ones, weighted, do.
    """
    found = []
    for block in frames.blocks(chains):
        machine = block.with_bases(generator)
        v_NSD, log_w_NS = anneal(machine, chains, ((ais_steps, 1.0),), generator)
        z = log_z(machine, log_w_NS)
        x_ND = block.x_ND.repeat_interleave(chains, 0)
        right_NS = frame_accuracy(x_ND, v_NSD.flatten(0, 1)[None]).unflatten(0, (-1, chains))
        accuracy_N = (log_w_NS.softmax(-1) * right_NS).sum(-1)
        found.append((machine.log_f(block.x_ND) - z.value, z.error, accuracy_N))
    return Estimate(*(torch.cat(parts) for parts in zip(*found, strict=True)))


@torch.no_grad()
def sample_frames(frames: ConditionalRBMs, ais_steps: int, generator: Generator) -> Tensor:
    """A frame v ~ p(v) of every machine, (N, D); the frames given do not count.

    Of annealed chains one is taken, by lot and with its weight as its chance (sampling importance
    resampling, Rubin 1988): exact as the chains become many, and good as ais_steps do.
    """
    drawn = []
    for block in frames.blocks(CHAINS_PER_SAMPLE):
        machine = block.with_bases(generator)
        v_NSD, log_w_NS = anneal(machine, CHAINS_PER_SAMPLE, ((ais_steps, 1.0),), generator)
        chosen_N1 = log_w_NS.softmax(-1).multinomial(1, generator=generator)
        drawn.append(v_NSD.take_along_dim(chosen_N1[..., None], dim=1)[:, 0])
    return torch.cat(drawn)


@torch.no_grad()
def raise_log_prob(
    frames: ConditionalRBMs, chains: int, ais_steps: int, generator: Generator
) -> Tensor:
    """−F(x) − log Z of every frame by reverse AIS from x: on average too low (`reverse_ais`)."""
    bounds = []
    for block in frames.blocks(chains):
        machine = block.with_bases(generator)
        z_N = reverse_ais(machine, block.x_ND, chains, ((ais_steps, 1.0),), generator)
        bounds.append(machine.log_f(block.x_ND) - z_N)
    return torch.cat(bounds)


class Converged(NamedTuple):
    """The last estimate, its ais_steps, and by how much the mean moved to it."""

    estimate: Estimate
    ais_steps: int
    moved: float


def converged_estimate(
    frames: ConditionalRBMs,
    chains: int,
    tolerance: float,
    generator: Generator,
    most: int = 100_000,
) -> Converged:
    """Raise the ais_steps threefold until the mean moves by less than `tolerance` nats.

    Prints every step; and that it has not converged, should it come to `most` ais_steps.
    """
    ais_steps, estimate = MIN_AIS_STEPS, estimate_log_prob(frames, chains, MIN_AIS_STEPS, generator)
    while True:
        before, ais_steps = float(estimate.log_prob_N.mean()), STEPS_FACTOR * ais_steps
        estimate = estimate_log_prob(frames, chains, ais_steps, generator)
        now = float(estimate.log_prob_N.mean())
        print(f"AIS {ais_steps} × {chains}: {now:.4f} nats, moved by {now - before:+.4f}")
        if abs(now - before) < tolerance:
            break
        if ais_steps >= most:
            print(f"AIS has not converged at {ais_steps} ais_steps: an upper estimate")
            break
    return Converged(estimate, ais_steps, now - before)
