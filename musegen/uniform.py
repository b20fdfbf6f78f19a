"""Uniform numbers at half the cost on a CPU, where they are much of the time of a chain."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

HALF = torch.tensor(0.5)


class Uniform:
    """Fills tensors of one shape (…, D) with U[0, 1) in steps of 2⁻²⁴, as `Tensor.uniform_` does.

    A CPU generator makes its numbers one after another, and torch spends 32 bits on each. Here of
    the 24 that a number needs the upper 16 are its own, and the lower 8 those of its row (all
    along the last dimension). Every number is exactly uniform, and rows are independent. Within a
    row u < p and u' < p' can know of one another only where both upper halves hit the one value
    in 2¹⁶ at which the lower bits decide: a covariance of 2⁻³⁴ at most.

    What is not float32 on a CPU is filled by `Tensor.uniform_`.
    """

    def __init__(self, like_ND: Tensor) -> None:
        self.plain = like_ND.device.type != "cpu" or like_ND.dtype != torch.float32
        if not self.plain:
            count, rows = like_ND.numel(), like_ND[..., :1].numel()
            bits = torch.empty(-(-(2 * count + rows) // 8), dtype=torch.int64)
            upper, lower = bits.view(torch.int16), bits.view(torch.uint8)
            self._bits = bits
            self._upper_ND = upper[:count].view(like_ND.shape)
            self._lower_N1 = lower[2 * count :][:rows].view(*like_ND.shape[:-1], 1)
            self._from_N1 = torch.empty(self._lower_N1.shape)

    def __call__(self, out_ND: Tensor, generator: Generator | None = None) -> Tensor:
        """`out_ND`, filled."""
        if self.plain:
            return out_ND.uniform_(generator=generator)
        self._bits.random_(-(2**63), None, generator=generator)
        # The upper bits have a sign: they reach from −½ to ½.
        torch.add(HALF, self._lower_N1, alpha=2.0**-24, out=self._from_N1)
        return torch.add(self._from_N1, self._upper_ND, alpha=2.0**-16, out=out_ND)
