"""Several processes on this machine for one run, and what torchrun and SLURM say of theirs."""

from __future__ import annotations

import logging
import os
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

WATCH = 0.2
"""Seconds between two looks at whether all processes live, or have come."""
PATIENCE = 300.0
"""Seconds for all processes to come: as many as torch gives them."""


def num_processes(trainer: pl.Trainer) -> int:
    """How many processes this one has to start; 1 if it should train by itself."""
    place = getattr(trainer.strategy, "cluster_environment", None)
    launched = place is not None and place.creates_processes_externally
    if trainer.num_nodes > 1 and not launched:
        raise UserError(
            f"trainer.num_nodes={trainer.num_nodes}: start it on every node, with torchrun "
            "--nnodes=… train.py … or with srun (see docs/distributed.md)"
        )
    spawning = getattr(trainer.strategy, "_start_method", "popen") != "popen"
    return 1 if launched or spawning else trainer.num_devices


def launch(
    run: Callable[[dict[str, Any]], float], settings: dict[str, Any], processes: int
) -> float:
    """`run(settings)` in so many processes; returns what it gives in the first.

    torch's elastic agent watches them: where one dies the others are ended. Exits with the code
    of the first that failed, after a line that says which it was, or with 128 and the number of a
    signal that came.
    """
    config = LaunchConfig(
        1, 1, processes, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, monitor_interval=WATCH, start_method="spawn",
    )  # fmt: skip
    # Of a process that has said why it ended, the agent would show a traceback of its own.
    logging.getLogger("torch.distributed.elastic.multiprocessing").setLevel(logging.CRITICAL)
    try:
        return float(elastic_launch(config, run)(settings)[0])
    except SignalException as e:
        # The agent has passed it on and waited; the first process has said what came of it.
        sys.exit(128 + e.sigval)
    except ChildFailedError as e:
        rank, failure = e.get_first_failure()
        if failure.exitcode not in (1, 130, 143):  # they have said why themselves
            print(
                f"musegen: process {rank} of {processes} died ({failure.signal_name()}, exit code "
                f"{failure.exitcode}); the others were ended",
                file=sys.stderr,
            )
        sys.exit(failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode)


@contextmanager
def lost_peers_as_user_errors() -> Iterator[None]:
    """Raise `UserError` in place of the error that a lost process causes in the others."""
    try:
        yield
    except dist.DistBackendError as e:
        raise UserError(f"process {dist.get_rank()}: lost contact with another process") from e
    except RuntimeError as e:
        if dist.is_initialized() and ("onnection" in str(e) or "gloo" in str(e)):
            raise UserError(f"process {dist.get_rank()}: lost contact with another process") from e
        raise


def rejoin_after_restart(environment: Mapping[str, str]) -> bool:
    """Form the group of a job whose processes torchrun has begun anew; whether it has.

    torch 2.13 would look into the agents' store as the processes before left it, with addresses of
    those that are gone. Each group takes a part of its own. Its number cannot be torchrun's count
    of restarts: an agent whose own processes live does not count one that another needs. So the
    first process draws it and tells those who ask, which the dead do not.
    """
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return False
    address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    store = dist.TCPStore(address, port, is_master=False)
    group = _gather(store, world) if rank == 0 else _ask(store, rank)
    if group == 1:
        return False
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    part = dist.PrefixStore(f"musegen/group/{group}", store)
    dist.init_process_group(backend, store=part, rank=rank, world_size=world)
    return True


def _gather(store: dist.Store, world: int) -> int:
    """A new group's number, once all others have it. Raises `UserError` where they do not come."""
    group = store.add("musegen/groups", 1)
    until = time.monotonic() + PATIENCE
    missing = set(range(1, world))
    while missing:
        if time.monotonic() > until:
            raise UserError(f"of {world} processes these did not come: {sorted(missing)}")
        time.sleep(WATCH)
        for rank in list(missing):
            if store.check([f"musegen/asking/{rank}"]):
                store.set(
                    f"musegen/told/{store.get(f'musegen/asking/{rank}').decode()}", str(group)
                )
            if store.check([f"musegen/joined/{group}/{rank}"]):
                missing.remove(rank)
    return group


def _ask(store: dist.Store, rank: int) -> int:
    """The number of the group whose first process lives."""
    name = uuid.uuid4().hex
    store.set(f"musegen/asking/{rank}", name)
    group = int(store.get(f"musegen/told/{name}"))
    store.set(f"musegen/joined/{group}/{rank}", "")
    return group


def share_source_path(environment: MutableMapping[str, str]) -> None:
    """Let the processes that a sweep's launcher begins find this code before an installed copy.

    In a clone it is on the path of train.py only because that lies beside it.
    """
    root = str(Path(__file__).parents[2])
    if root != sysconfig.get_path("purelib"):
        before = environment.get("PYTHONPATH", "").split(os.pathsep)
        environment["PYTHONPATH"] = os.pathsep.join([root, *filter(None, before)])


def shared_run_dir(arguments: list[str], environment: Mapping[str, str]) -> list[str]:
    """The arguments with the run folder that all processes of a job share, and `resume` for a job
    that SLURM has queued anew.

    Raises `UserError` where torchrun was given nothing that tells its job from others.
    """
    by_slurm = "SLURM_PROCID" in environment and int(environment.get("SLURM_NTASKS", 1)) > 1
    if "TORCHELASTIC_RUN_ID" not in environment and not by_slurm:
        return arguments
    typed = [a for a in arguments if a.startswith(("hydra.run.dir=", "resume="))]
    if "TORCHELASTIC_RUN_ID" in environment:
        job = environment["TORCHELASTIC_RUN_ID"]
    else:
        job = f"slurm-{environment['SLURM_JOB_ID']}"
    restarted = by_slurm and int(environment.get("SLURM_RESTART_COUNT", 0)) > 0
    if not typed:
        if job == "none":
            raise UserError(
                "torchrun: all processes must write to one run folder; add --standalone or "
                "--rdzv-id=NAME before train.py, or hydra.run.dir=DIR behind it"
            )
        arguments = [*arguments, f"hydra.run.dir={Path('runs') / job}"]
    if restarted and not any(a.startswith("resume=") for a in typed):
        arguments = [*arguments, "resume=auto"]
    return arguments
