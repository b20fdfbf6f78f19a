"""What the files of compiled loops (Numba) share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def can_cache(function: Callable[..., Any]) -> bool:
    """Whether Numba finds a folder that it can write to, for functions of this one's file.

    Without one, `cache=True` is an error.
    """
    try:
        njit(cache=True)(function)
    except RuntimeError:
        return False
    return True
