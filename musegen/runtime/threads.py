"""The threads that torch computes with."""

from __future__ import annotations

import torch


def describe_threads() -> str:
    """How many threads compute, in words."""
    n = torch.get_num_threads()
    return f"{n} thread{'s' if n > 1 else ''}"
