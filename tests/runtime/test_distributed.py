"""Several processes on one computer: their updates, metrics and files, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist

from musegen.cli import evaluate
from musegen.errors import UserError
from musegen.runtime import distributed
from musegen.runtime.launch import lost_peers_as_user_errors, shared_run_dir
from tests.conftest import ROOT
from tests.processes import HANG, Command

TWO = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]
QUICK = ["sample=null", "callbacks.samples=null", "trainer.max_epochs=2"]


def start(tmp_path: Path, *typed: object, own_group: bool = False) -> Command:
    return Command("train.py", tmp_path, *typed, own_group=own_group)


def train_to_the_end(tmp_path: Path, *typed: object) -> str:
    process = start(tmp_path, *typed)
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    return out


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that these have started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = int(re.search(r"PPid:\s+(\d+)", status.read_text())[1])
        except (OSError, TypeError):
            continue
        if parent == pid:
            found += [int(status.parent.name), *descendants(int(status.parent.name))]
    return found


@pytest.mark.slow
def test_two_half_batches_train_like_one_whole_batch(
    cli, midi_folder: Path, tmp_path: Path
) -> None:
    """Without dropout and augmentation, the gradients and all metrics are equal."""
    same = ["data=midi_folder", f"data.root={midi_folder}", "model.hidden=8", "model.head_width=8",
            "model.active_note_dim=4", "model.dropout=0", "data.window=16", "data.transpose=0",
            "data.tempo=0", "optimizer.name=sgd", "optimizer.lr=0.1", *QUICK]  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    train_to_the_end(tmp_path, *same, "data.batch_size=4", f"hydra.run.dir={one}")
    out = train_to_the_end(tmp_path, *same, "data.batch_size=2", *TWO, f"hydra.run.dir={two}")
    assert out.count("folder ") == 1, "only the first process prints a banner"
    ends = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, two)]
    assert ends[0]["global_step"] == ends[1]["global_step"] > 4
    for name, value in ends[0]["state_dict"].items():
        assert torch.allclose(value, ends[1]["state_dict"][name], atol=1e-6), name
    metrics = [json.loads((run / "test.json").read_text()) for run in (one, two)]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-6)
    rows = [len((run / "metrics.csv").read_text().splitlines()) for run in (one, two)]
    assert rows[0] == rows[1]

    code, out, err = cli(evaluate.main, f"run={two}")  # in one process
    assert code == 0, err
    assert out.count("written to ") == 1
    assert json.loads((two / "test.json").read_text()) == pytest.approx(metrics[1], abs=1e-6)


@pytest.mark.slow
def test_chains_of_two_processes_differ(midi_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train_to_the_end(tmp_path, "model=rbm", "data=piano_roll_folder", f"data.root={midi_folder}",
            "data.view=frames", "data.batch_size=4", "model.hidden=8", "assess.chains=0",
            "assess.reverse_rows=0", "callbacks.likelihood=null", *QUICK, *TWO,
            f"hydra.run.dir={run}")  # fmt: skip
    end = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    first, second = (state["chains"] for state in end["processes"])
    assert first.shape == second.shape == (4, 8)
    assert not torch.equal(first, second)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = start(tmp_path, "model=char_rnn", "data=anbn", "trainer.max_epochs=100000",
                "callbacks.resume.steps=5", *TWO, f"hydra.run.dir={run}")  # fmt: skip
    try:
        while not (run / "checkpoints" / "last.ckpt").exists() and job.poll() is None:
            time.sleep(0.1)
        processes = descendants(job.pid)
        workers = [p for p in processes if "spawn_main" in Path(f"/proc/{p}/cmdline").read_text()]
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
        _, err = job.communicate()
    finally:
        job.kill()
    assert job.returncode == 128 + signal.SIGKILL
    assert "musegen: process" in err
    assert "died (SIGKILL" in err
    deadline = time.monotonic() + HANG
    while left := [p for p in processes if Path(f"/proc/{p}").exists()]:
        assert time.monotonic() < deadline, f"orphans: {left}"
        time.sleep(0.1)
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > 0


@pytest.mark.slow
def test_ctrl_c_stops_all_processes_at_the_same_update(tmp_path: Path) -> None:
    """A terminal sends the signal to every process, and the launching process forwards it."""
    run = tmp_path / "run"
    job = start(tmp_path, "model=char_rnn", "data=anbn", "trainer.max_epochs=100000",
                "callbacks.samples=null", "callbacks.resume.steps=5", *TWO,
                "callbacks.patient._target_=tests.witness.Patient",
                f"hydra.run.dir={run}", own_group=True)  # fmt: skip
    try:
        while not (run / "checkpoints" / "last.ckpt").exists() and job.poll() is None:
            time.sleep(0.1)
        os.killpg(job.pid, signal.SIGINT)
        out, err = job.communicate()
    finally:
        job.kill()
    assert job.returncode == 128 + signal.SIGINT, out + err
    assert "Traceback" not in out + err
    (line,) = [line for line in out.splitlines() if line.startswith("stopped by")]
    assert line.endswith(f"to resume: python train.py resume={run}")
    reached = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert f"after {reached:,} updates" in line


def test_each_process_gets_its_part_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    cores, threads = [{0, 1, 2, 3, 4}], [5]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cores[-1])
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, new: cores.append(set(new)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    for unpinned in ({}, {"LOCAL_WORLD_SIZE": "1"}, {"LOCAL_WORLD_SIZE": "6", "LOCAL_RANK": "0"}):
        distributed.pin_cpu_affinity(unpinned)
    assert len(cores) == len(threads) == 1
    distributed.pin_cpu_affinity({"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"})
    assert (cores[-1], threads[-1]) == ({2, 3}, 2)
    assert distributed.teardown_process_group(pl.Trainer(accelerator="cpu", logger=False)) is True
    assert (cores[-1], threads[-1]) == ({0, 1, 2, 3, 4}, 5)
    distributed.pin_cpu_affinity(
        {"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0", "OMP_NUM_THREADS": "3"}
    )
    assert (cores[-1], threads[-1]) == ({0, 1}, 5)
    monkeypatch.setattr(distributed, "_before_pinning", None)


def test_all_processes_of_a_launched_job_share_one_folder() -> None:
    typed = ["model=rbm"]
    assert shared_run_dir(typed, {}) == typed
    torchrun = {"TORCHELASTIC_RUN_ID": "job7"}
    assert shared_run_dir(typed, torchrun) == [*typed, "hydra.run.dir=runs/job7"]
    given = ["hydra.run.dir=a", "resume=auto"]
    assert shared_run_dir(given, torchrun) == given
    slurm = {
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "4",
        "SLURM_JOB_ID": "12",
        "SLURM_RESTART_COUNT": "1",
    }
    assert shared_run_dir([], slurm) == ["hydra.run.dir=runs/slurm-12", "resume=auto"]
    with pytest.raises(UserError, match="--rdzv-id=NAME"):
        shared_run_dir(typed, torchrun | {"TORCHELASTIC_RUN_ID": "none"})


CLOSED = (
    "[/torch/third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer "
    "[127.0.0.1]:20390. This is typically caused by a remote worker crashing."
)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(CLOSED),
        RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 9ms for recv"),
        RuntimeError("[gloo/transport/tcp/pair.cc:1] Application timeout caused pair closure"),
        dist.DistBackendError("NCCL error: ncclRemoteError: A call failed possibly due to …"),
        dist.DistBackendError("NCCL communicator was aborted on rank 0."),
        dist.DistNetworkError("Connection reset by peer"),
        dist.DistStoreError("wait timeout after 300000ms, keys: /a"),
    ],
    ids=lambda e: f"{type(e).__name__}-{str(e)[:20]}",
)
def test_a_lost_process_is_one_line_with_the_cause(monkeypatch, error: RuntimeError) -> None:
    monkeypatch.setenv("RANK", "1")
    with (
        pytest.raises(UserError, match="process 1: lost contact with another process") as e,
        lost_peers_as_user_errors(),
    ):
        raise error
    assert e.value.__cause__ is error
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        RuntimeError("Connection closed by peer"),
        RuntimeError("gloo: no such collective"),
        RuntimeError("No backend type associated with device type cuda, only gloo"),
        dist.DistBackendError("NCCL error: ncclInvalidUsage: Duplicate GPU detected"),
        ConnectionError("Connection reset by peer"),
        ValueError("gloo/transport Connection closed by peer"),
    ],
    ids=lambda e: f"{type(e).__name__}-{str(e)[:20]}",
)
def test_other_errors_keep_their_type_and_traceback(error: Exception) -> None:
    with pytest.raises(type(error)) as e, lost_peers_as_user_errors():
        raise error
    assert e.value is error


LOSES_A_PEER = """
import os, signal, sys, torch, torch.distributed as dist
from musegen.cli.console import one_line_errors
from musegen.runtime.launch import lost_peers_as_user_errors
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
with one_line_errors(), lost_peers_as_user_errors():
    dist.all_reduce(torch.ones(1))
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.all_reduce(torch.ones(1))
"""


@pytest.mark.slow
@pytest.mark.parametrize("traceback", ["", "1"])
def test_what_gloo_says_of_a_killed_process_is_recognised(tmp_path: Path, traceback: str) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LOSES_A_PEER, str(rank), str(tmp_path / "store")], cwd=ROOT,
            stderr=subprocess.PIPE, text=True, env=os.environ | {"MUSEGEN_TRACEBACK": traceback},
        )
        for rank in (0, 1)
    ]  # fmt: skip
    (_, err), _ = (process.communicate(timeout=HANG) for process in processes)
    assert [process.returncode for process in processes] == [1, -signal.SIGKILL], err
    assert "process 0: lost contact with another process" in err
    assert ("Traceback (most recent call last)" in err) == bool(traceback)
    assert ("gloo/transport" in err) == bool(traceback)
