"""The position of each frame in metrical periods, counted from the first frame of the piece."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PERIODS = (2, 4, 8, 16)
"""In frames."""


def clock_one_hot(
    steps: int,
    first: int | Tensor = 0,
    periods: Sequence[int] = PERIODS,
    device: torch.device | str | None = None,
) -> Tensor:
    """t mod each period, one-hot vectors joined: (steps, Σ periods) float, t = first, first + 1, …

    If `first` is a tensor (B,), one number for each batch row: (B, steps, Σ periods).
    """
    t = torch.arange(steps, device=device)
    t = t + (first[:, None] if isinstance(first, Tensor) else first)
    positions = [t[..., None] % p == torch.arange(p, device=device) for p in periods]
    return torch.cat(positions, dim=-1).float()
