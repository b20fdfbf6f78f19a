"""The mathematics of binary restricted Boltzmann machines, shared by every model built on one.

    E(v, h) = −v·b − h·c − v W h        p(v, h) = exp(−E(v, h)) / Z
    F(v)    = −log Σ_h exp(−E(v, h)) = −v·b − Σ_h softplus(c + v W)
    p(h=1 | v) = σ(c + v W)             p(v=1 | h) = σ(b + h Wᵀ)

Biases may have leading dimensions: one machine for each frame, all with the same W.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from musegen.energy.affine import SPARSE_FRACTION, affine, compiled


def free_energy(v_BD: Tensor, W_DH: Tensor, b_v: Tensor, b_h: Tensor) -> Tensor:
    """F(v) in nats, one per row; differentiable."""
    return -(v_BD * b_v).sum(-1) - F.softplus(v_BD @ W_DH + b_h).sum(-1)


class ContrastiveLoss(torch.autograd.Function):
    """mean F(data) − mean F(chain ends), from what the rows bring to the hidden units.

    `apply(W_DH, b_v, b_h, x_BD, a_BH, v_CD, end_CH)` with data x, chain ends v, and a = c + x W
    and c + v W, which are already known: going through `free_energy` computes the products once
    more. With the weight w = 1/B of the data and −1/C of the ends the value is Σ_n w F(v), and
    the gradient, with v held constant,

        ∂W = −vᵀ (w σ(a))     ∂b = −Σ_n w v     ∂c = −Σ_n w σ(a)

    It costs little beside the value, and is computed with it. Where each row has biases of its
    own, as many rows end as began, and the gradient of the biases is row by row.
    """

    @staticmethod
    def forward(
        ctx: Any,
        W_DH: Tensor,
        b_v: Tensor,
        b_h: Tensor,
        x_BD: Tensor,
        a_BH: Tensor,
        v_CD: Tensor,
        end_CH: Tensor,
    ) -> Tensor:
        with torch.autocast(W_DH.device.type, enabled=False):
            value, *gradients = _contrastive(x_BD, a_BH, v_CD, end_CH, b_v)
        ctx.save_for_backward(*gradients)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by: Tensor) -> tuple[Tensor | None, ...]:
        gradients = ctx.saved_tensors
        # Looked at on a GPU, it would have to be waited for.
        if by.device.type != "cpu" or by.item() != 1:
            gradients = [slope * by for slope in gradients]
        return *gradients, None, None, None, None


def _contrastive(
    x_BD: Tensor, a_BH: Tensor, v_CD: Tensor, end_CH: Tensor, b_v: Tensor
) -> tuple[Tensor, ...]:
    """The value, ∂W, ∂b and ∂c."""
    if compiled(x_BD, a_BH, v_CD, end_CH, b_v):
        from musegen.energy import kernels

        few = kernels.nonzero_fraction(x_BD) < SPARSE_FRACTION
        value, to_W, to_v, to_h, p_NH = kernels.contrastive_loss(x_BD, a_BH, v_CD, end_CH, b_v, few)
        if not few:
            to_W = affine(torch.cat([x_BD, v_CD]).t(), p_NH)
        return value, to_W, to_v, to_h
    B, v_ND = len(x_BD), torch.cat([x_BD, v_CD])
    a_NH = torch.cat([a_BH, end_CH]).to(v_ND.dtype)  # what autocast made in fewer bits
    # −w, which every term begins with; of no rows at all nothing is left.
    sign_N = v_ND.new_full((len(v_ND),), -1 / max(1, B))
    sign_N[B:] = 1 / max(1, len(v_CD))
    p_NH = a_NH.sigmoid() * sign_N[:, None]
    if b_v.dim() > 1:
        to_v, to_h = (v_CD - x_BD) * sign_N[B:, None], p_NH[:B] + p_NH[B:]
    else:
        to_v, to_h = sign_N @ v_ND, p_NH.sum(0)
    value = (to_v * b_v).sum() + sign_N @ F.softplus(a_NH).sum(-1)
    return value, affine(v_ND.t(), p_NH), to_v, to_h
