"""b + x W without gradients: on a CPU by oneDNN, where that is faster than the BLAS torch has."""

from __future__ import annotations

import torch
from torch import Tensor

# What torch.compile makes of a linear layer on CPUs. On an AMD EPYC it takes half the time of the
# MKL kernel behind `addmm` at the sizes of a Gibbs step (benchmarks/rbm_speed.py).
_onednn_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)


@torch.no_grad()
def affine(x_I: Tensor, W_IO: Tensor, b: Tensor | None = None) -> Tensor:
    """(…, I) → (…, O), or without b just x W. b is (O,) or broadcasts over the rows."""
    on_cpu = x_I.device.type == "cpu" and x_I.dtype == torch.float32
    if _onednn_linear is not None and on_cpu:
        own = b is not None and b.dim() == 1
        y_O = _onednn_linear(x_I, W_IO.t(), b if own else None, "none", [], "")
        return y_O if own or b is None else y_O.add_(b)
    y_O = x_I @ W_IO
    return y_O if b is None else y_O.add_(b)
