"""The CPU threads that torch computes with."""

from __future__ import annotations

import torch


def describe_threads() -> str:
    """The number of threads in words, e.g. "2 threads"."""
    n = torch.get_num_threads()
    return f"{n} thread{'s' if n > 1 else ''}"
