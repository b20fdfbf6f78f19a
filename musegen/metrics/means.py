"""Means of any named metrics over examples, exact over batches and ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class RowMeans(Metric):
    """The mean of each named metric over the examples that have it: sum / count.

    `compute` leaves out a name without values.
    """

    full_state_update = False

    sum_K: Tensor
    count_K: Tensor

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = tuple(names)
        zeros_K = torch.zeros(len(self.names), dtype=torch.float64)
        self.add_state("sum_K", zeros_K.clone(), dist_reduce_fx="sum")
        self.add_state("count_K", zeros_K.clone(), dist_reduce_fx="sum")

    def update(self, **values_B: Tensor) -> None:
        """Add values (B,), one per example, under any of the names."""
        for name, value_B in values_B.items():
            i = self.names.index(name)
            self.sum_K[i] += value_B.sum(dtype=torch.float64)
            self.count_K[i] += len(value_B)

    def compute(self) -> dict[str, Tensor]:
        """The means so far."""
        return {
            name: self.sum_K[i] / self.count_K[i]
            for i, name in enumerate(self.names)
            if self.count_K[i] > 0
        }
