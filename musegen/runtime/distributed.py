"""Which of several processes this one is, what they do in turn or one alone, and their end."""

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

_alone = False
_parent = 0  # whose end is watched for
_every_core: tuple[set[int], int] | None = None  # and threads, before it kept to its share


def this_rank() -> tuple[int, int]:
    """(rank, number of ranks) of this process; (0, 1) where it is alone."""
    if not _alone and dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


@contextmanager
def single_process() -> Iterator[None]:
    """In this block the process reads the whole of a split, and not its share of it."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum of x over all ranks."""
    if this_rank()[1] > 1:
        dist.all_reduce(x)
    return x


@contextmanager
def host_lock() -> Iterator[None]:
    """Of all processes of this user on this machine one does what is in the block."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    with FileLock(Path(tempfile.gettempdir()) / f"musegen-{user}.lock"):
        yield


def pin_cpu_affinity(environment: Mapping[str, str]) -> None:
    """Keep one of several processes on this machine's CPU to its share of the cores.

    A scheduler likes to put processes that wake one another on one core, and these do so in every
    update. Unless OMP_NUM_THREADS says otherwise the process has a thread for each of its cores.
    Nothing happens with fewer cores than processes, or on a system without such a call.
    """
    global _every_core
    here = int(environment.get("LOCAL_WORLD_SIZE", 1))
    if here == 1 or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    share, place = len(cores) // here, int(environment["LOCAL_RANK"])
    if not share:
        return
    _every_core = set(cores), torch.get_num_threads()
    os.sched_setaffinity(0, cores[place * share : (place + 1) * share])
    if "OMP_NUM_THREADS" not in environment:
        torch.set_num_threads(share)


def teardown_process_group(trainer: pl.Trainer) -> bool:
    """End the group of processes; whether this is the one that goes on, alone, on all cores."""
    global _every_core
    if dist.is_available() and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        torch.cuda.empty_cache()
    if _every_core is not None:
        cores, threads = _every_core
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
        _every_core = None
    return trainer.is_global_zero


def end_with_parent() -> None:
    """Let SIGTERM reach this process soon after the one that began it came to its end, however."""
    global _parent
    if (parent := os.getppid()) == _parent:
        return
    _parent = parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
