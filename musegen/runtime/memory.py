"""Keep freed memory in the process, so that each training step can use it again."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""`mallopt` parameters, from glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Let glibc return no freed memory to the kernel. Does nothing with another C library.

    Each step allocates and frees the same tens of megabytes of activations. By default glibc maps
    every large block again, and the kernel fills it with zeros page by page: a third of the time
    of an LSTM's training step on two cores (`benchmarks/messages_speed.py`). The price is that
    the process keeps the memory until it ends.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
