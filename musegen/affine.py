"""b + x W where no gradient is wanted: on a CPU by the faster of the kernels that torch has."""

from __future__ import annotations

import torch
from torch import Tensor

# What torch.compile makes of a linear layer on CPUs. On an AMD EPYC it takes half the time of the
# MKL kernel behind `addmm` at the sizes of an RBM on digits (benchmarks/rbm_speed.py). Where every
# row has a bias of its own, `addmm` takes it along, and is as fast or faster.
_onednn_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


def affine(x_NI: Tensor, W_IO: Tensor, b: Tensor | None = None) -> Tensor:
    """(…, I) → (…, O), or without b just x W; under `no_grad` only.

    b is (O,), or a row for each of N rows, (N, O).
    """
    if b is not None and b.dim() > 1:
        return torch.addmm(b, x_NI, W_IO)
    if _onednn_linear is not None and x_NI.device.type == "cpu" and x_NI.dtype == torch.float32:
        return _onednn_linear(x_NI, W_IO.t(), b, "none", [], "")
    return x_NI @ W_IO if b is None else torch.addmm(b, x_NI, W_IO)
