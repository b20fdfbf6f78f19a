"""Several processes on one machine: what they teach, measure, write, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from musegen.cli import evaluate
from musegen.errors import UserError
from musegen.runtime import distributed
from musegen.runtime.launch import shared_run_dir
from tests.conftest import ROOT

TWO = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]
QUICK = ["sample=null", "callbacks.samples=null", "trainer.max_epochs=2"]


def begin(tmp_path: Path, *typed: object, **more: Any) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, ROOT / "train.py", *map(str, typed)], cwd=tmp_path, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"},
        **more,
    )  # fmt: skip


def trained(tmp_path: Path, *typed: object) -> str:
    process = begin(tmp_path, *typed)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 0, out
    return out


def descendants(pid: int) -> list[int]:
    """The processes that a process began, and theirs."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = int(re.search(r"PPid:\s+(\d+)", status.read_text())[1])
        except (OSError, TypeError):
            continue
        if parent == pid:
            found += [int(status.parent.name), *descendants(int(status.parent.name))]
    return found


def test_two_half_batches_teach_what_the_whole_one_does(
    cli, midi_folder: Path, tmp_path: Path
) -> None:
    """Gradients are equal where nothing is drawn by lot, and all metrics."""
    same = ["data=midi_folder", f"data.root={midi_folder}", "model.hidden=8", "model.head_width=8",
            "model.active_note_dim=4", "model.dropout=0", "data.window=16", "data.transpose=0",
            "data.tempo=0", "optimizer.name=sgd", "optimizer.lr=0.1", *QUICK]  # fmt: skip
    one, two = tmp_path / "one", tmp_path / "two"
    trained(tmp_path, *same, "data.batch_size=4", f"hydra.run.dir={one}")
    out = trained(tmp_path, *same, "data.batch_size=2", *TWO, f"hydra.run.dir={two}")
    assert out.count("folder ") == 1, "a banner for every process"
    ends = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (one, two)]
    assert ends[0]["global_step"] == ends[1]["global_step"] > 4
    for name, value in ends[0]["state_dict"].items():
        assert torch.allclose(value, ends[1]["state_dict"][name], atol=1e-6), name
    metrics = [json.loads((run / "test.json").read_text()) for run in (one, two)]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-6)
    rows = [len((run / "metrics.csv").read_text().splitlines()) for run in (one, two)]
    assert rows[0] == rows[1]

    code, out, err = cli(evaluate.main, f"run={two}")  # by one process
    assert code == 0, err
    assert out.count("written to ") == 1
    assert json.loads((two / "test.json").read_text()) == pytest.approx(metrics[1], abs=1e-6)


def test_chains_of_two_processes_are_not_alike(midi_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    trained(tmp_path, "model=rbm", "data=piano_roll_folder", f"data.root={midi_folder}",
            "data.view=frames", "data.batch_size=4", "model.hidden=8", "assess.chains=0",
            "assess.reverse_rows=0", "callbacks.likelihood=null", *QUICK, *TWO,
            f"hydra.run.dir={run}")  # fmt: skip
    end = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    first, second = (state["chains"] for state in end["processes"])
    assert first.shape == second.shape == (4, 8)
    assert not torch.equal(first, second)


def test_a_process_that_dies_takes_the_others_with_it(tmp_path: Path) -> None:
    run = tmp_path / "run"
    job = begin(tmp_path, "model=char_rnn", "data=anbn", "trainer.max_epochs=100000",
                "callbacks.resume.steps=5", *TWO, f"hydra.run.dir={run}")  # fmt: skip
    try:
        for _ in range(600):
            if (run / "checkpoints" / "last.ckpt").exists():
                break
            time.sleep(0.1)
        every = descendants(job.pid)
        workers = [p for p in every if "spawn_main" in Path(f"/proc/{p}/cmdline").read_text()]
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
        out, _ = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode == 128 + signal.SIGKILL
    assert "musegen: process" in out
    assert "died (SIGKILL" in out
    until = time.monotonic() + 30
    while left := [p for p in every if Path(f"/proc/{p}").exists()]:
        assert time.monotonic() < until, f"orphans: {left}"
        time.sleep(0.1)
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] > 0


def test_ctrl_c_stops_all_at_one_update(tmp_path: Path) -> None:
    """The terminal sends it to every process, and the one that launched the others passes it on."""
    run = tmp_path / "run"
    job = begin(tmp_path, "model=char_rnn", "data=anbn", "trainer.max_epochs=100000",
                "callbacks.samples=null", "callbacks.resume.steps=5", *TWO,
                f"hydra.run.dir={run}", process_group=0)  # fmt: skip
    try:
        while not (run / "checkpoints" / "last.ckpt").exists() and job.poll() is None:
            time.sleep(0.1)
        os.killpg(job.pid, signal.SIGINT)
        out, _ = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode == 128 + signal.SIGINT, out
    assert "Traceback" not in out
    (line,) = [line for line in out.splitlines() if line.startswith("stopped by")]
    assert line.endswith(f"to go on: python train.py resume={run}")
    reached = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert f"after {reached:,} updates" in line


def test_processes_keep_to_their_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    at, threads = [{0, 1, 2, 3, 4}], [5]
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: at[-1])
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: at.append(set(cores)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads[-1])
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    for alone in ({}, {"LOCAL_WORLD_SIZE": "1"}, {"LOCAL_WORLD_SIZE": "6", "LOCAL_RANK": "0"}):
        distributed.pin_cpu_affinity(alone)
    assert len(at) == len(threads) == 1
    distributed.pin_cpu_affinity({"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"})
    assert (at[-1], threads[-1]) == ({2, 3}, 2)
    assert distributed.teardown_process_group(pl.Trainer(accelerator="cpu", logger=False)) is True
    assert (at[-1], threads[-1]) == ({0, 1, 2, 3, 4}, 5)
    distributed.pin_cpu_affinity(
        {"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0", "OMP_NUM_THREADS": "3"}
    )
    assert (at[-1], threads[-1]) == ({0, 1}, 5)
    monkeypatch.setattr(distributed, "_every_core", None)


def test_the_folder_of_a_job_that_others_started() -> None:
    typed = ["model=rbm"]
    assert shared_run_dir(typed, {}) == typed
    torchrun = {"TORCHELASTIC_RUN_ID": "job7"}
    assert shared_run_dir(typed, torchrun) == [*typed, "hydra.run.dir=runs/job7"]
    own = ["hydra.run.dir=a", "resume=auto"]
    assert shared_run_dir(own, torchrun) == own
    slurm = {
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "4",
        "SLURM_JOB_ID": "12",
        "SLURM_RESTART_COUNT": "1",
    }
    assert shared_run_dir([], slurm) == ["hydra.run.dir=runs/slurm-12", "resume=auto"]
    with pytest.raises(UserError, match="--rdzv-id=NAME"):
        shared_run_dir(typed, torchrun | {"TORCHELASTIC_RUN_ID": "none"})
