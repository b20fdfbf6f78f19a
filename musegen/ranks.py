"""Which of several processes this one is."""

from __future__ import annotations

import torch.distributed as dist


def this_rank() -> tuple[int, int]:
    """(rank, number of ranks) of this process; (0, 1) where it is alone."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
