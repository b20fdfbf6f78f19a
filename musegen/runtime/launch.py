"""Several processes on this computer for one run, and processes that torchrun or SLURM started."""

from __future__ import annotations

import logging
import os
import re
import sys
import sysconfig
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from musegen.errors import UserError

POLL_INTERVAL = 0.2
"""Seconds between two checks whether all processes are alive, or have arrived."""
JOIN_TIMEOUT = 300.0
"""Seconds in which all processes must arrive; the same number as torch's."""
LOST_PEER = re.compile(
    r"gloo/transport/.*(Connection (closed|reset) by peer|Broken pipe|Connection refused"
    r"|Timed out waiting|timeout caused pair closure)"
    r"|ncclRemoteError|NCCL communicator was aborted",
    re.S,
)
"""What gloo (a `RuntimeError`) and NCCL (a `DistBackendError`) say when another process ended."""


def num_processes(trainer: pl.Trainer) -> int:
    """How many processes this one has to start; 1 if it should train by itself."""
    cluster = getattr(trainer.strategy, "cluster_environment", None)
    launched = cluster is not None and cluster.creates_processes_externally
    if trainer.num_nodes > 1 and not launched:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}: start it on every node, with torchrun "
            "--nnodes=… train.py … or with srun (see docs/how_to/several_gpus.md)"
        )
    return 1 if launched else int(trainer.num_devices)


def launch(
    run: Callable[[dict[str, Any]], float], settings: dict[str, Any], processes: int
) -> float:
    """Call `run(settings)` in so many processes; returns the result of the first one.

    torch's elastic agent watches them: if one dies, it ends the others. This process then prints
    which one died and exits with its code, or with 128 plus the number of a received signal.
    """
    config = LaunchConfig(
        1, 1, processes, run_id=uuid.uuid4().hex, rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        max_restarts=0, monitor_interval=POLL_INTERVAL, start_method="spawn",
    )  # fmt: skip
    # The agent would print a second traceback for a process that has already printed its error.
    logging.getLogger("torch.distributed.elastic.multiprocessing").setLevel(logging.CRITICAL)
    try:
        return float(elastic_launch(config, run)(settings)[0])
    except SignalException as e:
        # The agent has forwarded the signal and waited; the first process has printed a line.
        sys.exit(128 + e.sigval)
    except ChildFailedError as e:
        rank, failure = e.get_first_failure()
        if failure.exitcode not in (1, 130, 143):  # these have printed the reason themselves
            print(
                f"musegen: process {rank} of {processes} died ({failure.signal_name()}, exit code "
                f"{failure.exitcode}); the others were ended",
                file=sys.stderr,
            )
        sys.exit(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode)


@contextmanager
def lost_peers_as_user_errors() -> Iterator[None]:
    """Raise `UserError` in place of the error that a lost process causes in the other processes.

    The original error is its `__cause__`. Other errors pass through, also those of torch's
    backends that have another reason.
    """
    try:
        yield
    except RuntimeError as e:  # the base class of torch.distributed's errors
        if not _is_lost_peer(e):
            raise
        rank = dist.get_rank() if dist.is_initialized() else os.environ.get("RANK", "?")
        raise UserError(
            f"process {rank}: lost contact with another process; its own message says why, and "
            "MUSEGEN_TRACEBACK=1 shows where this one was"
        ) from e


def _is_lost_peer(error: RuntimeError) -> bool:
    """Whether the error says that another process, or the store that all share, is gone."""
    if isinstance(error, (dist.DistNetworkError, dist.DistStoreError)):
        return True
    return LOST_PEER.search(str(error)) is not None


def rejoin_after_restart(environment: Mapping[str, str]) -> bool:
    """Form the process group of a job that torchrun has restarted; returns whether it has.

    torch 2.13 would read the agents' store as the earlier processes left it, with addresses of
    processes that have ended. Each group therefore uses its own prefix in the store. The prefix
    cannot be torchrun's count of restarts: an agent whose own processes are alive does not count
    a restart that another agent needs. So the first process draws a number and sends it to the
    processes that ask for it, which only living processes do.
    """
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return False
    address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    store = dist.TCPStore(address, port, is_master=False)
    group = _send_group_number(store, world) if rank == 0 else _ask_group_number(store, rank)
    if group == 1:
        return False
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    prefixed = dist.PrefixStore(f"musegen/group/{group}", store)
    dist.init_process_group(backend, store=prefixed, rank=rank, world_size=world)
    return True


def _send_group_number(store: dist.Store, world: int) -> int:
    """Draw a group number and send it to all others. Raises `UserError` if some never ask."""
    group = int(store.add("musegen/groups", 1))
    deadline = time.monotonic() + JOIN_TIMEOUT
    missing = set(range(1, world))
    while missing:
        if time.monotonic() > deadline:
            raise UserError(f"of {world} processes, these have not joined: {sorted(missing)}")
        time.sleep(POLL_INTERVAL)
        for rank in list(missing):
            if store.check([f"musegen/asking/{rank}"]):
                name = store.get(f"musegen/asking/{rank}").decode()
                store.set(f"musegen/answer/{name}", str(group))
            if store.check([f"musegen/joined/{group}/{rank}"]):
                missing.remove(rank)
    return group


def _ask_group_number(store: dist.Store, rank: int) -> int:
    """Ask the living first process for the number of its group."""
    name = uuid.uuid4().hex
    store.set(f"musegen/asking/{rank}", name)
    group = int(store.get(f"musegen/answer/{name}"))
    store.set(f"musegen/joined/{group}/{rank}", "")
    return group


def share_source_path(environment: MutableMapping[str, str]) -> None:
    """Let the processes that a sweep's launcher starts find this code before an installed copy.

    In a clone it is on the import path only because train.py lies beside it.
    """
    root = str(Path(__file__).parents[2])
    if root != sysconfig.get_path("purelib"):
        before = environment.get("PYTHONPATH", "").split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, before)])


def shared_run_dir(arguments: list[str], environment: Mapping[str, str]) -> list[str]:
    """The arguments with one run folder for all processes of a torchrun or SLURM job.

    A job that SLURM has put into its queue again also gets `resume=auto`. Raises `UserError` if
    torchrun was given no name for its job.
    """
    by_slurm = "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", 1)) > 1
    by_torchrun = "TORCHELASTIC_RUN_ID" in environment
    if not by_torchrun and not by_slurm:
        return arguments
    given = [a for a in arguments if a.startswith(("hydra.run.dir=", "resume="))]
    if not given:
        arguments = [*arguments, f"hydra.run.dir={Path('runs') / _job_name(environment)}"]
    restarted = by_slurm and int(environment.get("SLURM_RESTART_COUNT", 0)) > 0
    if restarted and not any(a.startswith("resume=") for a in given):
        arguments = [*arguments, "resume=auto"]
    return arguments


def _job_name(environment: Mapping[str, str]) -> str:
    """The name that the launcher gave to the job."""
    job = environment.get("TORCHELASTIC_RUN_ID") or f"slurm-{environment['SLURM_JOB_ID']}"
    if job == "none":  # torchrun's default
        raise UserError(
            "torchrun: all processes must write to one run folder; add --standalone or "
            "--rdzv-id=NAME before train.py, or hydra.run.dir=DIR after it"
        )
    return job
