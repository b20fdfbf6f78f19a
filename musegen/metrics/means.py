"""Means over rows of any named metrics, exact over batches and ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class RowMeans(Metric):
    """The mean of each named metric over the rows that had one: all_reduce_sum, counted, divided once.

    `compute` leaves out a name that no row came with.
    """

    full_state_update = False

    sum_N: Tensor
    rows_N: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        zeros_N = torch.zeros(len(self.names), dtype=torch.float64)
        self.add_state("sum_N", zeros_N.clone(), dist_reduce_fx="sum")
        self.add_state("rows_N", zeros_N.clone(), dist_reduce_fx="sum")

    def update(self, **figures_B: Tensor) -> None:
        """Add one metric per row, under any of the names."""
        for name, figure_B in figures_B.items():
            i = self.names.index(name)
            self.sum_N[i] += figure_B.sum(dtype=torch.float64)
            self.rows_N[i] += len(figure_B)

    def compute(self) -> dict[str, Tensor]:
        return {
            name: self.sum_N[i] / self.rows_N[i]
            for i, name in enumerate(self.names)
            if self.rows_N[i] > 0
        }
