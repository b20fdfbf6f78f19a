"""Free energy and contrastive loss of binary restricted Boltzmann machines.

    E(v, h) = −v·b − h·c − v W h        p(v, h) = exp(−E(v, h)) / Z
    F(v)    = −log Σ_h exp(−E(v, h)) = −v·b − Σ_h softplus(c + v W)
    p(h=1 | v) = σ(c + v W)             p(v=1 | h) = σ(b + h Wᵀ)

Biases may have leading dimensions: conditional RBMs, one for each frame, with the same W.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from musegen.energy.affine import SPARSE_FRACTION, affine, supports_kernels


def free_energy(v_BD: Tensor, W_DH: Tensor, b_v: Tensor, b_h: Tensor) -> Tensor:
    """F(v) in nats, one per batch row; differentiable."""
    return -(v_BD * b_v).sum(-1) - F.softplus(v_BD @ W_DH + b_h).sum(-1)


class ContrastiveLoss(torch.autograd.Function):
    """mean F(data) − mean F(chain ends), from hidden activations that are already computed.

    `apply(W_DH, b_v, b_h, x_BD, a_BH, v_CD, end_CH)` with data x, chain ends v, and their hidden
    activations a = c + x W and c + v W. (`free_energy` would compute these products again.) With
    the weight w = 1/B for data and −1/C for chain ends, the value is Σ_n w F(v), and the gradient
    with v held constant is

        ∂W = −vᵀ (w σ(a))     ∂b = −Σ_n w v     ∂c = −Σ_n w σ(a)

    The gradient is computed together with the value, since it adds little to its cost. Where each
    row has its own biases, B = C and the gradient of the biases is row by row.
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
        # On a GPU, reading the value of `by` would wait for the GPU.
        if by.device.type != "cpu" or by.item() != 1:
            gradients = [gradient * by for gradient in gradients]
        return *gradients, None, None, None, None


def _contrastive(
    x_BD: Tensor, a_BH: Tensor, v_CD: Tensor, end_CH: Tensor, b_v: Tensor
) -> tuple[Tensor, ...]:
    """The value, ∂W, ∂b and ∂c."""
    if not supports_kernels(x_BD, a_BH, v_CD, end_CH, b_v):
        return _contrastive_by_torch(x_BD, a_BH, v_CD, end_CH, b_v)
    from musegen.energy import kernels

    sparse = kernels.nonzero_fraction(x_BD) < SPARSE_FRACTION
    value, grad_W, grad_v, grad_h, p_NH = kernels.contrastive_loss(
        x_BD, a_BH, v_CD, end_CH, b_v, sparse
    )
    if not sparse:
        grad_W = affine(torch.cat([x_BD, v_CD]).t(), p_NH)
    return value, grad_W, grad_v, grad_h


def _contrastive_by_torch(
    x_BD: Tensor, a_BH: Tensor, v_CD: Tensor, end_CH: Tensor, b_v: Tensor
) -> tuple[Tensor, ...]:
    """The same by torch's kernels, for a GPU and other dtypes."""
    B, v_ND = len(x_BD), torch.cat([x_BD, v_CD])
    a_NH = torch.cat([a_BH, end_CH]).to(v_ND.dtype)  # autocast may have computed it in 16 bits
    # −w, a factor of every term. With no rows at all the result is 0.
    sign_N = v_ND.new_full((len(v_ND),), -1 / max(1, B))
    sign_N[B:] = 1 / max(1, len(v_CD))
    p_NH = a_NH.sigmoid() * sign_N[:, None]
    if b_v.dim() > 1:
        grad_v, grad_h = (v_CD - x_BD) * sign_N[B:, None], p_NH[:B] + p_NH[B:]
    else:
        grad_v, grad_h = sign_N @ v_ND, p_NH.sum(0)
    value = (grad_v * b_v).sum() + sign_N @ F.softplus(a_NH).sum(-1)
    return value, affine(v_ND.t(), p_NH), grad_v, grad_h
