"""The place of a frame in the bar, as far as counting from the first frame can tell."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

PERIODS = (2, 4, 8, 16)
"""In frames."""


def clock(
    steps: int,
    first: int | Tensor = 0,
    periods: Sequence[int] = PERIODS,
    device: torch.device | str | None = None,
) -> Tensor:
    """t mod each period, one-hot side by side: (steps, Σ periods) float, t = first, first + 1, …

    With a tensor of firsts, one for each batch row, (B, steps, Σ periods).
    """
    t = torch.arange(steps, device=device)
    t = t + (first[:, None] if isinstance(first, Tensor) else first)
    hands = [t[..., None] % p == torch.arange(p, device=device) for p in periods]
    return torch.cat(hands, dim=-1).float()
