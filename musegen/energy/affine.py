"""b + x W where no gradient is wanted: on a CPU by the fastest of the kernels at hand."""

from __future__ import annotations

import torch
from torch import Tensor

# What torch.compile makes of a linear layer on CPUs. On an AMD EPYC it takes half the time of the
# MKL kernel behind `addmm` at the sizes of an RBM on digits (benchmarks/rbm_speed.py). Where every
# row has a bias of its own, `addmm` takes it along, and is as fast or faster.
_onednn_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)

SPARSE_FRACTION = 0.25
"""With fewer numbers than that other than 0, the rows of W are added up (`musegen.energy.kernels`)."""

CACHE_SIZE = 2**19
"""Numbers in float32 that a core keeps near, 2 MiB."""


def compiled(*tensors: Tensor) -> bool:
    """Whether `musegen.energy.kernels` takes these: float32 on a CPU."""
    return all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


def fits_in_cache(W_DH: Tensor) -> bool:
    """Whether chains of several steps are faster in `musegen.energy.kernels`: where W stays near. Of a
    larger one a dense product reads every part once for all rows."""
    return compiled(W_DH) and W_DH.numel() <= CACHE_SIZE


def affine(x_NI: Tensor, W_IO: Tensor, b: Tensor | None = None) -> Tensor:
    """(…, I) → (…, O), or without b just x W; under `no_grad` only.

    b is (O,), or a row for each of N rows, (N, O).
    """
    here = compiled(x_NI, W_IO)
    if here and x_NI.dim() == 2 and W_IO.is_contiguous():
        from musegen.energy import kernels

        if kernels.nonzero_fraction(x_NI) < SPARSE_FRACTION:
            return kernels.product(x_NI, W_IO, b)
    if b is not None and b.dim() > 1:
        return torch.addmm(b, x_NI, W_IO)
    if _onednn_linear is not None and here:
        return _onednn_linear(x_NI, W_IO.t(), b, "none", [], "")
    return x_NI @ W_IO if b is None else torch.addmm(b, x_NI, W_IO)
