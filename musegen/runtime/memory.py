"""Keep freed memory in the process, so that each training step finds it again."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""`mallopt` parameters, from glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Have glibc hand nothing back to the kernel; with another C library nothing happens.

    A step allocates and frees the same tens of megabytes of activations again and again. By
    default glibc maps each large block anew, and the kernel zeroes it page by page: a third of
    the time of an LSTM's training step on two cores (`benchmarks/messages_speed.py`). The price
    is that memory, once used, stays with the process until it ends.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, -1)
