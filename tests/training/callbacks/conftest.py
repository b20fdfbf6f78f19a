"""A fixture: this process as one of two."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch.distributed as dist


@pytest.fixture
def two_processes(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Call it with a rank: `this_rank` is then (rank, 2), without a second process."""

    def pretend(rank: int) -> None:
        monkeypatch.setattr(dist, "is_initialized", lambda: True)
        monkeypatch.setattr(dist, "get_rank", lambda *_: rank)
        monkeypatch.setattr(dist, "get_world_size", lambda *_: 2)

    return pretend
