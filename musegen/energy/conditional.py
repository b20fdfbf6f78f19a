"""Conditional RBMs, as in the RNN-RBM: one W for all frames, and biases for each frame.

The log Z of each frame comes from annealed importance sampling (`musegen.energy.ais`). Any base
gives an unbiased estimate of Z; a good base needs few steps. Here each RBM's base is independent
units with the RBM's own marginals, a = logit E[v] and d = logit E[h]. Short Gibbs chains estimate
them, independent of the annealing. By mean field a = b + W E[h] and d = c + E[v] W, so the means
hardly change with β. Short chains miss modes, and a base with probabilities too close to 0 or 1
would keep annealing from reaching them: therefore the base is smoothed (`BASE_SMOOTHING`).

With too few AIS steps log-likelihoods are biased upward (`forward_ais`), so `converged_estimate`
raises their number until the mean hardly changes.

Shapes: N frames with S chains each, processed in blocks of bounded size.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from musegen.energy.ais import AnnealedRBM, anneal, log_z, reverse_ais
from musegen.energy.gibbs import GibbsChains
from musegen.metrics.accuracy import frame_accuracy
from musegen.runtime.progress import track

MAX_CHAINS = {"cpu": 2_000, "cuda": 200_000}
"""Chains that run together; on a CPU as many as fit into its cache."""
BASE_CHAINS, BASE_STEPS = 20, 25
"""Gibbs chains per frame for the base's marginals; as many steps of burn-in as are averaged."""
BASE_SMOOTHING = 0.3
"""Weight of a common probability in each base: the block's mean for visible units, ½ for hidden."""
CHAINS_PER_SAMPLE = 10
"""Annealed chains from which one sampled frame is chosen."""
MIN_AIS_STEPS, STEPS_FACTOR = 100, 3
"""AIS steps that `converged_estimate` starts with, and the factor it raises them by."""


@dataclass(frozen=True)
class ConditionalRBMs:
    """Binary frames x_ND, each with the biases of its own RBM."""

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

    def blocks(self, chains: int) -> list[ConditionalRBMs]:
        """All frames in blocks, so that at most `MAX_CHAINS` run together, `chains` per frame."""
        width = max(1, MAX_CHAINS[self.x_ND.device.type] // chains)
        return [self.select(slice(i, i + width)) for i in range(0, len(self), width)]

    def gibbs(self, chains: int, steps: int, generator: Generator) -> Iterator[GibbsChains]:
        """Gibbs chains from v = 0, `chains` rows per frame; yields their state after each step."""
        b_v, b_h = (b.repeat_interleave(chains, 0) for b in (self.b_v_ND, self.b_h_NH))
        gibbs = GibbsChains(len(b_v), self.W_DH)
        gibbs.set_visible(torch.zeros_like(b_v), self.W_DH, b_h, generator)
        for _ in range(steps):
            gibbs.run(1, self.W_DH, b_v, b_h, generator)
            yield gibbs

    def with_bases(self, generator: Generator) -> AnnealedRBM:
        """The RBMs, and for each a base with its smoothed marginals."""
        sum_v, sum_h = torch.zeros_like(self.b_v_ND), torch.zeros_like(self.b_h_NH)
        for step, gibbs in enumerate(self.gibbs(BASE_CHAINS, 2 * BASE_STEPS, generator)):
            if step >= BASE_STEPS:
                sum_v += gibbs.p_BD.unflatten(0, (len(self), -1)).sum(1)
                sum_h += gibbs.p_BH.unflatten(0, (len(self), -1)).sum(1)
        mean_v, mean_h = (s / (BASE_CHAINS * BASE_STEPS) for s in (sum_v, sum_h))
        base_v = torch.lerp(mean_v, mean_v.mean(0), BASE_SMOOTHING).clamp(1e-4, 1 - 1e-4)
        base_h = torch.lerp(mean_h, torch.full_like(mean_h, 0.5), BASE_SMOOTHING)
        return AnnealedRBM(self.W_DH, self.b_v_ND, self.b_h_NH, base_v.logit(), base_h.logit())


class Estimate(NamedTuple):
    """For each frame: log p(x) in nats, its standard error from AIS, and the accuracy in [0, 1]."""

    log_prob_N: Tensor
    error_N: Tensor
    accuracy_N: Tensor


@torch.no_grad()
def estimate_log_prob(
    frames: ConditionalRBMs, chains: int, ais_steps: int, generator: Generator
) -> Estimate:
    """log p(x) = −F(x) − log Z by forward AIS, too high on average; accuracy by the same chains.

    The accuracy is its expectation over samples of the frame's RBM. Plain Gibbs chains mix too
    slowly in RBMs whose probabilities are close to 0 or 1; annealed chains, weighted, do not.
    """
    parts = []
    what = f"log-likelihood by AIS of {ais_steps:,} steps"
    for block in track(frames.blocks(chains), what, "blocks of frames"):
        rbm = block.with_bases(generator)
        v_NSD, log_w_NS = anneal(rbm, chains, ((ais_steps, 1.0),), generator)
        z = log_z(rbm, log_w_NS)
        x_ND = block.x_ND.repeat_interleave(chains, 0)
        accuracy_NS = frame_accuracy(x_ND, v_NSD.flatten(0, 1)[None]).unflatten(0, (-1, chains))
        accuracy_N = (log_w_NS.softmax(-1) * accuracy_NS).sum(-1)
        parts.append((rbm.log_f(block.x_ND) - z.value, z.error, accuracy_N))
    return Estimate(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


@torch.no_grad()
def sample_frames(frames: ConditionalRBMs, ais_steps: int, generator: Generator) -> Tensor:
    """A frame v ~ p(v) of every RBM, (N, D); the frames x_ND are not used.

    Sampling importance resampling (Rubin 1988): one of the annealed chains is chosen at random,
    with probability proportional to its weight. This is exact in the limit of many chains, and
    more accurate with more AIS steps.
    """
    drawn = []
    for block in frames.blocks(CHAINS_PER_SAMPLE):
        rbm = block.with_bases(generator)
        v_NSD, log_w_NS = anneal(rbm, CHAINS_PER_SAMPLE, ((ais_steps, 1.0),), generator)
        chosen_N1 = log_w_NS.softmax(-1).multinomial(1, generator=generator)
        drawn.append(v_NSD.take_along_dim(chosen_N1[..., None], dim=1)[:, 0])
    return torch.cat(drawn)


@torch.no_grad()
def raise_log_prob(
    frames: ConditionalRBMs, chains: int, ais_steps: int, generator: Generator
) -> Tensor:
    """The RAISE estimate of log p(x) of every frame in nats, by reverse AIS from x, (N,).

    A conservative estimate: a lower bound, on average, for the annealed approximation, not for
    the RBM (`musegen.energy.ais`).
    """
    parts = []
    what = f"RAISE by reverse AIS of {ais_steps:,} steps"
    for block in track(frames.blocks(chains), what, "blocks of frames"):
        rbm = block.with_bases(generator)
        z_N = reverse_ais(rbm, block.x_ND, chains, ((ais_steps, 1.0),), generator)
        parts.append(rbm.log_f(block.x_ND) - z_N)
    return torch.cat(parts)


class Converged(NamedTuple):
    """The last estimate, its number of AIS steps, and the last change of its mean in nats."""

    estimate: Estimate
    ais_steps: int
    last_change: float


def converged_estimate(
    frames: ConditionalRBMs,
    chains: int,
    tolerance: float,
    generator: Generator,
    max_ais_steps: int = 100_000,
) -> Converged:
    """Triple the number of AIS steps until the mean changes by less than `tolerance` nats.

    Prints one line for each number of steps, and a warning if the mean has not converged at
    `max_ais_steps`.
    """
    ais_steps, estimate = MIN_AIS_STEPS, estimate_log_prob(frames, chains, MIN_AIS_STEPS, generator)
    while True:
        before, ais_steps = float(estimate.log_prob_N.mean()), STEPS_FACTOR * ais_steps
        estimate = estimate_log_prob(frames, chains, ais_steps, generator)
        mean = float(estimate.log_prob_N.mean())
        change = mean - before
        print(f"AIS, {ais_steps} steps × {chains} chains: {mean:.4f} nats, change {change:+.4f}")
        if abs(change) < tolerance:
            break
        if ais_steps >= max_ais_steps:
            print(f"AIS has not converged at {ais_steps} steps: the estimate is biased upward")
            break
    return Converged(estimate, ais_steps, change)


def pooled_metrics(estimate: Estimate, total: int) -> dict[str, float]:
    """Standard errors of the means, and the mean accuracy, of a sample of `total` frames.

    The variance over frames is divided by their number, with the correction for sampling without
    replacement; the log-likelihood adds the variance of AIS.
    """
    count = len(estimate.log_prob_N)
    sampling = (1 - count / total) / count
    ais_variance = float(estimate.error_N.square().sum()) / count**2
    log_prob_variance = float(estimate.log_prob_N.var()) * sampling + ais_variance
    return {
        "log_likelihood_error": math.sqrt(log_prob_variance),
        "accuracy": float(estimate.accuracy_N.mean()),
        "accuracy_error": float(estimate.accuracy_N.std()) * math.sqrt(sampling),
    }
