"""The partition function of an RBM by annealed importance sampling (AIS), in both directions.

The path of distributions leads from a base of independent units (no weights, biases a and d) at
β = 0 to the RBM at β = 1 (Neal 2001; Salakhutdinov & Murray 2008, with d = 0):

    log f_β(v) = v·((1−β) a + β b) + Σ_h softplus((1−β) d + β (c + v W))
    log Z_0    = Σ_h softplus(d_h) + Σ_d softplus(a_d)

*Forward*: a chain starts at v_0 ~ p_0. At each β_k its weight is multiplied by
f_{β_k}(v) / f_{β_{k−1}}(v), then v takes a Gibbs step at β_k. The mean weight is an unbiased
estimate of Z / Z_0. By Jensen's inequality the estimate of log Z is therefore too low on average,
and log-likelihoods are biased upward.

*Reverse*: the chain starts at a given vector x at β = 1 and goes to β = 0; its weights are
inverted. What the result means depends on where x comes from:

- x is an exact sample of the RBM: the mean of the inverse estimates of Z is 1/Z, so the estimate
  of log Z is too high on average. Forward and reverse AIS then enclose the exact log Z in
  expectation (bidirectional Monte Carlo: Grosse, Ghahramani & Adams 2015).
- x is a data vector (RAISE: Burda, Grosse & Salakhutdinov 2015): f_1(x) divided by the estimate is
  an unbiased estimate of the probability of x under the *annealed approximation*, the distribution
  that forward annealing samples from. Its logarithm is a lower bound, on average, of the
  log-probability under that approximation, *not* under the RBM: with few steps it can exceed the
  RBM's exact log-probability. It is a conservative estimate for the RBM under the assumption that
  the annealed approximation fits the data no better than the RBM does.

The gap between the two directions says how far the estimates can be trusted.

Shapes: S chains; N batch rows or RBMs. Biases are (D,) and (H,), or (N, D) and (N, H) for N RBMs
with one W; results then have N as their first dimension.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from musegen.energy.affine import affine, fits_in_cache
from musegen.errors import UserError
from musegen.runtime.progress import begin, track

Schedule = Sequence[tuple[int, float]]

MAX_LOGIT = 80.0
"""Beyond ±80, σ is clamped: exp(−87) is about the smallest normal float32 number."""

SALAKHUTDINOV_MURRAY: Schedule = ((500, 0.5), (4000, 0.9), (10_000, 1.0))
"""500 steps to β = 0.5, then 4,000 to 0.9, then 10,000 to 1."""


class AnnealedRBM(NamedTuple):
    """An RBM, or N with the same W, and the biases of the base that annealing starts from."""

    W_DH: Tensor
    b_v: Tensor
    b_h: Tensor
    base_v: Tensor
    base_h: Tensor

    def log_base_partition(self) -> Tensor:
        """log Z_0, float64."""
        return F.softplus(self.base_h.double()).sum(-1) + F.softplus(self.base_v.double()).sum(-1)

    def log_f(self, v_ND: Tensor) -> Tensor:
        """log f_1(v) = −F(v), one per batch row, float64."""
        activation_NH = v_ND @ self.W_DH + self.b_h
        return (v_ND * self.b_v).sum(-1, dtype=torch.float64) + F.softplus(activation_NH).sum(
            -1, dtype=torch.float64
        )


class LogZ(NamedTuple):
    """An estimate of log Z, its standard error and the effective number of chains behind it."""

    value: Tensor
    error: Tensor
    effective_chains: Tensor


def inverse_temperatures(schedule: Schedule) -> list[float]:
    """0 = β_0 < β_1 < … = 1 from (steps, last β) pairs.

    Raises `UserError` unless the values increase to 1.
    """
    betas = [0.0]
    for steps, top in schedule:
        start = betas[-1]
        if steps < 1 or not start < top <= 1:
            raise UserError(
                f"schedule={list(schedule)}: should be (steps, β) pairs with β increasing to 1"
            )
        betas += [start + (top - start) * i / steps for i in range(1, steps + 1)]
    if betas[-1] != 1:
        raise UserError(f"schedule={list(schedule)}: the last β should be 1")
    return betas


class Particles(NamedTuple):
    """Ends of forward chains and their weights: E w g(v) / E w is the RBM's mean of any g."""

    v_SD: Tensor
    log_w_S: Tensor


@torch.no_grad()
def anneal(
    rbm: AnnealedRBM,
    chains: int = 100,
    schedule: Schedule = SALAKHUTDINOV_MURRAY,
    generator: Generator | None = None,
) -> Particles:
    """Forward chains from the base to the RBM; E w = Z / Z_0."""
    lead = torch.broadcast_shapes(rbm.b_v.shape[:-1], rbm.base_v.shape[:-1])
    base = rbm.base_v[..., None, :].sigmoid()
    u_SD = torch.empty(*lead, chains, base.shape[-1], device=base.device, dtype=base.dtype)
    v_SD = u_SD.uniform_(generator=generator).lt_(base)
    betas = inverse_temperatures(schedule)
    return Particles(v_SD, _anneal("forward AIS", rbm, v_SD, betas, generator))


def forward_ais(
    rbm: AnnealedRBM,
    chains: int = 100,
    schedule: Schedule = SALAKHUTDINOV_MURRAY,
    generator: Generator | None = None,
) -> LogZ:
    """log Z by forward AIS: E exp(value) = Z, so the value is too low on average."""
    return log_z(rbm, anneal(rbm, chains, schedule, generator).log_w_S)


def log_z(rbm: AnnealedRBM, log_w_S: Tensor) -> LogZ:
    """log Z from the weights of at least two forward chains.

    The error is that of the logarithm of a mean, std(w) / (mean(w) √S). It is valid where many
    chains carry weight (`effective_chains` = (Σw)² / Σw²), and does not include modes that no
    chain has found.
    """
    top = log_w_S.amax(-1, keepdim=True)
    w_S = (log_w_S - top).exp()
    mean = w_S.mean(-1)
    return LogZ(
        value=rbm.log_base_partition() + top[..., 0] + mean.log(),
        error=w_S.std(-1) / (mean * math.sqrt(log_w_S.shape[-1])),
        effective_chains=w_S.sum(-1) ** 2 / (w_S**2).sum(-1),
    )


@torch.no_grad()
def reverse_ais(
    rbm: AnnealedRBM,
    x_ND: Tensor,
    chains: int = 1,
    schedule: Schedule = SALAKHUTDINOV_MURRAY,
    generator: Generator | None = None,
) -> Tensor:
    """log Z by reverse AIS, one estimate per binary batch row x_ND, (N,) float64.

    If x is an exact sample of the RBM, E exp(−value) = 1/Z and the value is too high on average.
    If x is data, −F(x) − value is the RAISE estimate of log p(x): on average a lower bound for the
    annealed approximation, not for the RBM (see the module's docstring). With several chains per
    row, their estimates of 1/Z are averaged.
    """
    v_NSD = x_ND[:, None].repeat(1, chains, 1)
    betas = inverse_temperatures(schedule)[::-1]
    log_w_NS = _anneal("reverse AIS", rbm, v_NSD, betas, generator)
    log_inverse_N = torch.logsumexp(log_w_NS, -1) - math.log(chains)
    return rbm.log_base_partition() - log_inverse_N


def _anneal(
    what: str, rbm: AnnealedRBM, v_SD: Tensor, betas: list[float], generator: Generator | None
) -> Tensor:
    """Σ_k log f_{β_k}(v) − log f_{β_{k−1}}(v) along one chain per row, β in the given order.

    Between two weights the chain takes a Gibbs step at the β in between; v_SD is overwritten.
    `what` is the name of this pass in the display of its progress.
    """
    log_w_S = torch.zeros(v_SD.shape[:-1], dtype=torch.float64, device=v_SD.device)
    if not fits_in_cache(rbm.W_DH):
        return _anneal_by_torch(what, rbm, v_SD, log_w_S, betas, generator)
    from musegen.energy import kernels

    deltas = rbm.b_v - rbm.base_v, rbm.b_h - rbm.base_h
    flat = v_SD.view(-1, v_SD.shape[-1]), log_w_S.view(-1)
    arguments = rbm.W_DH, rbm.base_v, rbm.base_h, *deltas, *flat
    with begin(what, len(betas) - 1, "steps") as progress:
        for done in kernels.anneal(betas, *arguments, generator):
            progress.at(done)
    return log_w_S


def _anneal_by_torch(
    what: str,
    rbm: AnnealedRBM,
    v_SD: Tensor,
    log_w_S: Tensor,
    betas: list[float],
    generator: Generator | None,
) -> Tensor:
    """The same by torch's kernels, for a GPU, other dtypes and a W larger than the cache."""
    W_DH, base_v, base_h = rbm.W_DH, rbm.base_v, rbm.base_h
    delta_v, delta_h = rbm.b_v - base_v, rbm.b_h - base_h
    W_HD = W_DH.t()
    base_v, base_h, delta_v, delta_h = (b[..., None, :] for b in (base_v, base_h, delta_v, delta_h))
    h_SH = torch.empty(*v_SD.shape[:-1], W_DH.shape[1], device=v_SD.device, dtype=v_SD.dtype)
    for before, beta in track(pairwise(betas), what, "steps", len(betas) - 1):
        a_SH = affine(v_SD, W_DH).add_(delta_h)
        # Minus the logits of h at both temperatures: σ of them is the probability that h = 0.
        off_SH, off_before_SH = (torch.add(-base_h, a_SH, alpha=-b) for b in (beta, before))
        log_w_S += _log_sigmoid_difference(off_before_SH, off_SH)
        log_w_S += (v_SD * delta_v).sum(-1, dtype=torch.float64).mul_(beta - before)
        if beta != betas[-1]:
            h_SH.uniform_(generator=generator).ge_(off_SH)
            p_SD = affine(h_SH, W_HD).mul_(beta).add_(base_v + beta * delta_v).sigmoid_()
            v_SD.uniform_(generator=generator).lt_(p_SD)
    return log_w_S


def _log_sigmoid_difference(before_SH: Tensor, after_SH: Tensor) -> Tensor:
    """Σ_h log σ(before) − log σ(after), float64; both arguments are overwritten by their σ.

    With −x for x this is the increase of Σ softplus(x). It takes one logarithm of a product of
    ratios close to 1 instead of two softplus for every unit.
    """
    lowest = min(float(before_SH.min()), float(after_SH.min()))
    if lowest < -MAX_LOGIT:  # log σ(x) = x there, while σ(x) underflows
        excess_SH = (after_SH + MAX_LOGIT).clamp_(max=0).sub_((before_SH + MAX_LOGIT).clamp_(max=0))
        rest_S = -excess_SH.sum(-1, dtype=torch.float64)
        before_SH, after_SH = before_SH.clamp_(min=-MAX_LOGIT), after_SH.clamp_(min=-MAX_LOGIT)
    before_SH.sigmoid_()
    after_SH.sigmoid_()
    log_S = (before_SH / after_SH).prod(-1).double().log_()
    if not bool(log_S.isfinite().all()):
        log_S = before_SH.log().sub_(after_SH.log()).sum(-1, dtype=torch.float64)
    return log_S + rest_S if lowest < -MAX_LOGIT else log_S
