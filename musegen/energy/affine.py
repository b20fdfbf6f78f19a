"""The product b + x W without gradient, by the fastest kernel that is available."""

from __future__ import annotations

import torch
from torch import Tensor

# The kernel that torch.compile uses for a linear layer on CPUs. On an AMD EPYC it takes half the
# time of the MKL kernel behind `addmm` at the sizes of an RBM on digits (benchmarks/rbm_speed.py).
# Where every row has its own bias, `addmm` adds it in the same call and is as fast or faster.
_onednn_linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None)

SPARSE_FRACTION = 0.25
"""With a smaller fraction of nonzero inputs, rows of W are added up (`musegen.energy.kernels`)."""

CACHE_SIZE = 2**19
"""float32 numbers that fit into the cache of one core: 2 MiB."""


def supports_kernels(*tensors: Tensor) -> bool:
    """Whether `musegen.energy.kernels` accepts these tensors: float32 on a CPU."""
    return all(t.device.type == "cpu" and t.dtype == torch.float32 for t in tensors)


def fits_in_cache(W_DH: Tensor) -> bool:
    """Whether chains of several steps are faster in `musegen.energy.kernels`.

    They are while W stays in the cache. A larger W is better multiplied by a dense product, which
    reads each part of it once for all rows.
    """
    return supports_kernels(W_DH) and W_DH.numel() <= CACHE_SIZE


def affine(x_NI: Tensor, W_IO: Tensor, b: Tensor | None = None) -> Tensor:
    """b + x W, (…, I) → (…, O); x W without b. Only under `no_grad`.

    b is (O,), or (N, O) with one bias for each of N rows.
    """
    on_cpu = supports_kernels(x_NI, W_IO)
    if on_cpu and x_NI.dim() == 2 and W_IO.is_contiguous():
        from musegen.energy import kernels

        if kernels.nonzero_fraction(x_NI) < SPARSE_FRACTION:
            return kernels.product(x_NI, W_IO, b)
    if b is not None and b.dim() > 1:
        return torch.addmm(b, x_NI, W_IO)
    if _onednn_linear is not None and on_cpu:
        out_NO: Tensor = _onednn_linear(x_NI, W_IO.t(), b, "none", [], "")
        return out_NO
    return x_NI @ W_IO if b is None else torch.addmm(b, x_NI, W_IO)


def dense_affine(x_NI: Tensor, W_IO: Tensor, b: Tensor) -> Tensor:
    """b + x W of an LSTM's step, for a large and contiguous W. Only under `no_grad`.

    b is (O,), or (N, O) with one bias for each of N rows. For one or two rows MKL is faster than
    oneDNN, which then takes longer to start than to compute (512 x 1024 on an AMD EPYC: 26 and 35
    µs for one row, 1000 and 440 for 64).
    """
    if _onednn_linear is None or len(x_NI) <= 2 or not supports_kernels(x_NI, W_IO):
        return torch.addmm(b, x_NI, W_IO)
    shared_O = b if b.dim() == 1 else None
    out_NO: Tensor = _onednn_linear(x_NI, W_IO.t(), shared_O, "none", [], "")
    return out_NO if shared_O is not None else out_NO.add_(b)
