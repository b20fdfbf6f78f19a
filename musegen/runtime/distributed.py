"""Ranks, reductions and locks for several processes, and the end of their group."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from filelock import FileLock
from torch import Tensor

_in_single_process = False
_watched_parent = 0
_before_pinning: tuple[set[int], int] | None = None
"""The cores and the number of threads that this process had before `pin_cpu_affinity`."""


def this_rank() -> tuple[int, int]:
    """(rank, number of ranks) of this process; (0, 1) without a process group."""
    if not _in_single_process and dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@contextmanager
def single_process() -> Iterator[None]:
    """In this block `this_rank` is (0, 1), so that the process reads all of a split."""
    global _in_single_process
    before, _in_single_process = _in_single_process, True
    try:
        yield
    finally:
        _in_single_process = before


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of x over all ranks, in place."""
    if this_rank()[1] > 1:
        dist.all_reduce(x)
    return x


@contextmanager
def host_lock() -> Iterator[None]:
    """Let only one of this user's processes on this computer run the block at a time."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    with FileLock(Path(tempfile.gettempdir()) / f"musegen-{user}.lock"):
        yield


def pin_cpu_affinity(environment: Mapping[str, str]) -> None:
    """Restrict one of several processes on this computer's CPU to its part of the cores.

    A scheduler tends to put processes that wake one another on one core, and these processes do
    so in every update. Unless OMP_NUM_THREADS is set, the process gets one thread for each of its
    cores. Nothing happens with fewer cores than processes, or without the system call.
    """
    global _before_pinning
    processes = int(environment.get("LOCAL_WORLD_SIZE", 1))
    if processes == 1 or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    cores_each, place = len(cores) // processes, int(environment["LOCAL_RANK"])
    if not cores_each:
        return
    _before_pinning = set(cores), torch.get_num_threads()
    os.sched_setaffinity(0, cores[place * cores_each : (place + 1) * cores_each])
    if "OMP_NUM_THREADS" not in environment:
        torch.set_num_threads(cores_each)


def teardown_process_group(trainer: pl.Trainer) -> bool:
    """End the process group and give the process all its cores back.

    Returns whether this is the first process, which alone does the remaining work.
    """
    global _before_pinning
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        torch.cuda.empty_cache()
    if _before_pinning is not None:
        cores, threads = _before_pinning
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
        _before_pinning = None
    return bool(trainer.is_global_zero)


def end_with_parent() -> None:
    """Send SIGTERM to this process within a second after its parent process has ended."""
    global _watched_parent
    if (parent := os.getppid()) == _watched_parent:
        return
    _watched_parent = parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
