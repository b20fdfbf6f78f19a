"""How likely an RBM finds the data: log Z by annealed importance sampling, in both directions.

The path of machines runs from a base of independent units (no weights, biases a and d) at β = 0
to the machine itself at β = 1 (Neal 2001; Salakhutdinov & Murray 2008, with d = 0):

    log f_β(v) = v·((1−β) a + β b) + Σ_h softplus((1−β) d + β (c + v W))
    log Z_0    = Σ_h softplus(d_h) + Σ_d softplus(a_d)

*Forward*, a chain starts at v_0 ~ p_0 and at each β_k takes the weight f_{β_k}/f_{β_{k−1}} of
where it stands, then a Gibbs step of the machine at β_k. The mean weight is an unbiased estimate
of Z/Z_0, so the estimate of log Z is too low on average, and log-likelihoods too good.

*Reverse*, the same chain starts at a datum x and goes back to β = 0, its weights inverted (RAISE:
Burda, Grosse & Salakhutdinov 2015). f_1(x) over this estimate of Z is an unbiased estimate of the
probability of x under the distribution that forward annealing samples from, so its logarithm is
too low on average: log Z too high, log-likelihoods too bad. The truth lies between, and how far
the two are apart says how much either can be believed.

Shapes: S chains, N rows or machines. Biases are (D,) and (H,), or (N, D) and (N, H) for N
machines with one W; results then have the N in front.
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
"""Beyond ±80 σ is 0 or 1 as far as float32 goes; exp(−88) is the last number above 0."""

SALAKHUTDINOV_MURRAY: Schedule = ((500, 0.5), (4000, 0.9), (10_000, 1.0))
"""500 steps to β = 0.5, then 4,000 to 0.9, then 10,000 to 1."""


class AnnealedRBM(NamedTuple):
    """An RBM (or N with the same W), and the biases of the base that annealing starts from."""

    W_DH: Tensor
    b_v: Tensor
    b_h: Tensor
    base_v: Tensor
    base_h: Tensor

    def log_base_partition(self) -> Tensor:
        """log Z_0, float64."""
        return F.softplus(self.base_h.double()).sum(-1) + F.softplus(self.base_v.double()).sum(-1)

    def log_f(self, v_ND: Tensor) -> Tensor:
        """log f_1(v) = −F(v), one per row, float64."""
        activation_NH = v_ND @ self.W_DH + self.b_h
        return (v_ND * self.b_v).sum(-1, dtype=torch.float64) + F.softplus(activation_NH).sum(
            -1, dtype=torch.float64
        )


class LogZ(NamedTuple):
    """An estimate of log Z, its standard error, and how many of the chains it rests on."""

    value: Tensor
    error: Tensor
    effective_chains: Tensor


def inverse_temperatures(schedule: Schedule) -> list[float]:
    """0 = β_0 < β_1 < … < 1 from (steps, up to β) pairs.

    Raises `UserError` unless they rise to 1.
    """
    betas = [0.0]
    for steps, top in schedule:
        start = betas[-1]
        if steps < 1 or not start < top <= 1:
            raise UserError(f"schedule={list(schedule)}: (steps, β) pairs, β rising from 0 to 1")
        betas += [start + (top - start) * i / steps for i in range(1, steps + 1)]
    if betas[-1] != 1:
        raise UserError(f"schedule={list(schedule)}: the last β must be 1")
    return betas


class Particles(NamedTuple):
    """Ends of forward chains and their weights: E w g(v) / E w is the machine's mean of any g."""

    v_SD: Tensor
    log_w_S: Tensor


@torch.no_grad()
def anneal(
    machine: AnnealedRBM,
    chains: int = 100,
    schedule: Schedule = SALAKHUTDINOV_MURRAY,
    generator: Generator | None = None,
) -> Particles:
    """Forward chains from the base to the machine, E w = Z / Z_0."""
    lead = torch.broadcast_shapes(machine.b_v.shape[:-1], machine.base_v.shape[:-1])
    base = machine.base_v[..., None, :].sigmoid()
    u_SD = torch.empty(*lead, chains, base.shape[-1], device=base.device, dtype=base.dtype)
    v_SD = u_SD.uniform_(generator=generator).lt_(base)
    return Particles(v_SD, _anneal(machine, v_SD, inverse_temperatures(schedule), generator))


def forward_ais(
    machine: AnnealedRBM,
    chains: int = 100,
    schedule: Schedule = SALAKHUTDINOV_MURRAY,
    generator: Generator | None = None,
) -> LogZ:
    """log Z from below: E exp(value) = Z."""
    return log_z(machine, anneal(machine, chains, schedule, generator).log_w_S)


def log_z(machine: AnnealedRBM, log_w_S: Tensor) -> LogZ:
    """log Z from the weights of forward chains.

    The error is that of the log of a mean of two chains or more, std(w) / (mean(w) √S). It holds
    where many chains carry weight (`effective_chains` = (Σw)² / Σw²), and says nothing of modes
    that no chain has found.
    """
    top = log_w_S.amax(-1, keepdim=True)
    w_S = (log_w_S - top).exp()
    mean = w_S.mean(-1)
    return LogZ(
        value=machine.log_base_partition() + top[..., 0] + mean.log(),
        error=w_S.std(-1) / (mean * math.sqrt(log_w_S.shape[-1])),
        effective_chains=w_S.sum(-1) ** 2 / (w_S**2).sum(-1),
    )


@torch.no_grad()
def reverse_ais(
    machine: AnnealedRBM,
    x_ND: Tensor,
    chains: int = 1,
    schedule: Schedule = SALAKHUTDINOV_MURRAY,
    generator: Generator | None = None,
) -> Tensor:
    """log Z from above, one estimate per binary row x_ND, (N,) float64.

    −F(x) − value is a lower bound, on average, of the log-probability of x under the model that
    forward annealing samples from. For rows drawn from the machine itself, E exp(−value) = 1/Z.
    With more than one chain per row their 1/Z are averaged.
    """
    v_NSD = x_ND[:, None].repeat(1, chains, 1)
    log_w_NS = _anneal(machine, v_NSD, inverse_temperatures(schedule)[::-1], generator)
    inverse_N = torch.logsumexp(log_w_NS, -1) - math.log(chains)
    return machine.log_base_partition() - inverse_N


def _anneal(
    machine: AnnealedRBM, v_SD: Tensor, betas: list[float], generator: Generator | None
) -> Tensor:
    """Σ_k log f_{β_k}(v) − log f_{β_{k−1}}(v) along one chain per row, β in the order given.

    Between two weights stands a Gibbs step of the machine at the β between; v_SD is overwritten.
    """
    W_DH, base_v, base_h = machine.W_DH, machine.base_v, machine.base_h
    delta_v, delta_h = machine.b_v - base_v, machine.b_h - base_h
    log_w_S = torch.zeros(v_SD.shape[:-1], dtype=torch.float64, device=v_SD.device)
    if fits_in_cache(W_DH):
        from musegen.energy import kernels

        flat = v_SD.view(-1, v_SD.shape[-1]), log_w_S.view(-1)
        given = W_DH, base_v, base_h, delta_v, delta_h, *flat
        with begin("annealing", len(betas) - 1, "ais_steps") as work:
            for done in kernels.anneal(betas, *given, generator):
                work.at(done)
        return log_w_S
    W_HD = W_DH.t()
    base_v, base_h, delta_v, delta_h = (b[..., None, :] for b in (base_v, base_h, delta_v, delta_h))
    h_SH = torch.empty(*v_SD.shape[:-1], W_DH.shape[1], device=v_SD.device, dtype=v_SD.dtype)
    for before, beta in track(pairwise(betas), "annealing", "ais_steps", len(betas) - 1):
        a_SH = affine(v_SD, W_DH).add_(delta_h)
        off_SH, was_off_SH = (torch.add(-base_h, a_SH, alpha=-b) for b in (beta, before))
        log_w_S += _fall(was_off_SH, off_SH)
        log_w_S += (v_SD * delta_v).sum(-1, dtype=torch.float64).mul_(beta - before)
        if beta != betas[-1]:
            h_SH.uniform_(generator=generator).ge_(off_SH)
            p_SD = affine(h_SH, W_HD).mul_(beta).add_(base_v + beta * delta_v).sigmoid_()
            v_SD.uniform_(generator=generator).lt_(p_SD)
    return log_w_S


def _fall(was_SH: Tensor, is_SH: Tensor) -> Tensor:
    """Σ_h log σ(was) − log σ(is), float64; was and is are overwritten by their σ.

    With −x for x this is what Σ softplus(x) has risen by, and σ(−x) the chance that h = 0. One
    logarithm of a product of quotients, each near 1, for two softplus of every unit.
    """
    lowest = min(float(was_SH.min()), float(is_SH.min()))
    if lowest < -MAX_LOGIT:  # log σ(x) = x there, and σ(x) on the way to 0
        over_S = (is_SH + MAX_LOGIT).clamp_(max=0).sub_((was_SH + MAX_LOGIT).clamp_(max=0))
        rest_S = -over_S.sum(-1, dtype=torch.float64)
        was_SH, is_SH = was_SH.clamp_(min=-MAX_LOGIT), is_SH.clamp_(min=-MAX_LOGIT)
    was_SH.sigmoid_()
    is_SH.sigmoid_()
    log_S = (was_SH / is_SH).prod(-1).double().log_()
    if not bool(log_S.isfinite().all()):
        log_S = was_SH.log().sub_(is_SH.log()).sum(-1, dtype=torch.float64)
    return log_S + rest_S if lowest < -MAX_LOGIT else log_S
