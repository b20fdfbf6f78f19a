"""Exact distributions of tiny RBMs by enumeration, to test sampling and annealing against."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def states(units: int) -> Tensor:
    """All 2^units binary vectors, float64."""
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=units)), dtype=torch.float64)


def log_weights(W_DH: Tensor, b_v: Tensor, b_h: Tensor) -> Tensor:
    """log Σ_h exp(−E(v, h)) for every v, in the order of `states`; sums over every h."""
    v_ND, h_MH = states(len(b_v)), states(len(b_h))
    minus_energy_NM = (
        (v_ND @ b_v.double())[:, None]
        + (h_MH @ b_h.double())[None]
        + v_ND @ W_DH.double() @ h_MH.t()
    )
    return minus_energy_NM.logsumexp(1)


def log_z(W_DH: Tensor, b_v: Tensor, b_h: Tensor) -> Tensor:
    """log Z, float64."""
    return log_weights(W_DH, b_v, b_h).logsumexp(0)
