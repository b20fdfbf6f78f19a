"""Log-likelihoods of any binary RBM from its weights: AIS and RAISE as functions of W, b and c.

    p(v) = exp(−F(v)) / Z,     F(v) = −v·b − Σ_h softplus(c_h + (v W)_h)

W is (D, H), b (D,) are the visible biases and c (H,) the hidden ones: arrays of numpy, tensors or
lists. `musegen.energy.ais` has the equations and what the estimates mean.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from musegen.constraints import PositiveInt, Seed, check_arguments
from musegen.energy.ais import (
    SALAKHUTDINOV_MURRAY,
    AnnealedRBM,
    Schedule,
    forward_ais,
    reverse_ais,
)
from musegen.errors import UserError
from musegen.runtime.random_streams import Stream, torch_stream


class Partition(NamedTuple):
    """log Z, its standard error over the chains, and how many chains carry the weight."""

    log_z: float
    error: float
    effective_chains: float


class Estimate(NamedTuple):
    """The mean log p of some vectors in nats, and the standard error of the mean."""

    log_likelihood: float
    error: float


@check_arguments
def ais(
    W: Any,
    b: Any,
    c: Any,
    means: Any = None,
    chains: PositiveInt = 100,
    schedule: Any = SALAKHUTDINOV_MURRAY,
    seed: Seed = 0,
) -> Partition:
    """log Z of a binary RBM by annealed importance sampling (Salakhutdinov & Murray 2008).

        log_z = musegen.ais(W, b, c, means=x.mean(0)).log_z

    - means: the means (D,) of the training data. Annealing starts from independent units with
      these means, which needs fewer steps; None starts from fair coins.
    - chains: at least 2, since the error is over chains.
    - schedule: (steps, last β) pairs with β increasing to 1.

    E exp(log_z) = Z: the value is too low on average, and log-likelihoods are biased upward.
    Raises `UserError` for shapes that do not fit and for values out of range.
    """
    if chains == 1:
        raise UserError("chains=1: should be at least 2, since one has no standard error")
    rbm = annealed_rbm(W, b, c, means)
    z = forward_ais(rbm, chains, _schedule(schedule), torch_stream(Stream.ASSESSMENT, seed))
    return Partition(float(z.value), float(z.error), float(z.effective_chains))


@check_arguments
def raise_estimate(
    W: Any,
    b: Any,
    c: Any,
    x: Any,
    means: Any = None,
    chains: PositiveInt = 1,
    schedule: Any = SALAKHUTDINOV_MURRAY,
    seed: Seed = 0,
) -> Estimate:
    """The mean log p of the vectors x (N, D) of 0 and 1 by RAISE (Burda et al. 2015).

    - chains: reverse chains from each vector.
    - means, schedule: as in `ais`.

    A conservative estimate: on average a lower bound of the log-probability under the annealed
    approximation, which is not the RBM. Raises `UserError` as `ais` does.
    """
    rbm = annealed_rbm(W, b, c, means)
    x_ND = _floats(x, "x", (None, len(rbm.b_v)))
    if not bool(((x_ND == 0) | (x_ND == 1)).all()):
        raise UserError("x: should have values 0 and 1 only; binarise it first")
    generator = torch_stream(Stream.ASSESSMENT, seed)
    z_N = reverse_ais(rbm, x_ND, chains, _schedule(schedule), generator)
    log_p_N = rbm.log_f(x_ND) - z_N
    error = float(log_p_N.std() / len(log_p_N) ** 0.5) if len(log_p_N) > 1 else float("nan")
    return Estimate(float(log_p_N.mean()), error)


def annealed_rbm(W: Any, b: Any, c: Any, means: Any = None) -> AnnealedRBM:
    """The RBM as `musegen.energy.ais` takes it. Raises `UserError` for shapes that do not fit."""
    W_DH = _floats(W, "W", (None, None))
    visible, hidden = W_DH.shape
    b_v, b_h = _floats(b, "b", (visible,)), _floats(c, "c", (hidden,))
    if means is None:
        base_v = torch.zeros_like(b_v)
    else:
        # A unit that is never on would have an infinite bias.
        base_v = _floats(means, "means", (visible,)).clamp(1e-4, 1 - 1e-4).logit()
    return AnnealedRBM(W_DH, b_v, b_h, base_v, torch.zeros_like(b_h))


def _floats(values: Any, name: str, shape: tuple[int | None, ...]) -> Tensor:
    array = torch.as_tensor(values).detach().to("cpu", torch.float32).contiguous()
    fits = len(array.shape) == len(shape) and all(
        want is None or got == want for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise UserError(f"{name}: has shape {tuple(array.shape)}, should have ({wanted})")
    return array


def _schedule(schedule: Any) -> Schedule:
    return [(int(steps), float(beta)) for steps, beta in schedule]
