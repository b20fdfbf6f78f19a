"""Gibbs chains of conditional RBMs: the biases of each row, and the number of rows, change."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from musegen.energy.gibbs import GibbsChains


class ChainEnds(NamedTuple):
    """N chains after their last step; the next run overwrites them."""

    v_ND: Tensor
    a_NH: Tensor
    """b_h + v W of the end."""
    h_NH: Tensor
    """A sample of p(h | v)."""
    start_a_NH: Tensor
    """b_h + v W of the start."""


class RowChains:
    """k Gibbs steps of N RBMs with the same W and biases of their own.

    A CUDA graph has a fixed number of chains. On CUDA the chains are therefore filled up to a power
    of two, and the graph of each such number is kept: a dozen at most, for any lengths of batches.
    """

    def __init__(self) -> None:
        self._by_size: dict[tuple[int, bool], GibbsChains] = {}

    @torch.no_grad()
    def run(
        self,
        k: int,
        start_ND: Tensor,
        W_DH: Tensor,
        b_v_ND: Tensor,
        b_h_NH: Tensor,
        generator: Generator | None = None,
    ) -> ChainEnds:
        """The chains after k Gibbs steps from v = start."""
        count = size = len(start_ND)
        rows = start_ND, b_v_ND, b_h_NH
        if W_DH.device.type == "cuda":
            size = 1 << (count - 1).bit_length()
            rows = tuple(F.pad(row_NZ, (0, 0, 0, size - count)) for row_NZ in rows)  # type: ignore[assignment]
        chains, (start_SD, b_v_SD, b_h_SH) = self._of_size(size, W_DH), rows
        start_a_SH = chains.set_visible(start_SD, W_DH, b_h_SH, generator)
        chains.run(k, W_DH, b_v_SD, b_h_SH, generator)
        ends = chains.v_BD, chains.a_BH, chains.h_BH, start_a_SH
        return ChainEnds(*(row_SZ[:count] for row_SZ in ends))

    def _of_size(self, size: int, W_DH: Tensor) -> GibbsChains:
        # Buffers that were made in inference mode, as in validation, cannot be written outside it.
        key = size, torch.is_inference_mode_enabled()
        known = self._by_size.get(key)
        if known is None or not known.fits(size, W_DH.device):
            if W_DH.device.type != "cuda":
                self._by_size.clear()  # only graphs are worth keeping
            known = self._by_size[key] = GibbsChains(size, W_DH)
        return known
