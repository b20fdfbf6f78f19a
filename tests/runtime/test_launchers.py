"""Sweeps with jobs in a launcher's processes, and with jobs of several processes each."""

from __future__ import annotations

import csv
import json
import os
import pickle
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from musegen.cli import train
from tests.conftest import ROOT
from tests.processes import HANG, Command
from tests.runtime.test_distributed import TWO, descendants

TINY = ["-m", "model=char_rnn", "data=anbn", "data.train_size=20", "data.batch_size=10",
        "data.val_n=[1,3]", "data.count_to=3", "trainer.max_epochs=2", "sample=null",
        "callbacks.samples=null"]  # fmt: skip
REFUSED = "model.hidden=0: should be greater than or equal to 1"


def assert_only_job_0_failed(sweep: Path, code: int, err: str) -> None:
    """Of the widths 0 and 3, the first is refused and the second is trained."""
    assert code == 1, err
    assert "Traceback" not in err
    assert err.splitlines()[-1] == f"musegen: job 0: {REFUSED}"
    settings = OmegaConf.load(sweep / "1" / "config.yaml")
    assert settings.model.hidden == 3
    assert settings.run_dir == str(sweep / "1")
    assert (sweep / "1" / "report.html").exists()
    assert not list((sweep / "0").iterdir())


def best_of(run: Path) -> float:
    with (run / "metrics.csv").open(newline="") as file:
        return min(float(r["val/nll"]) for r in csv.DictReader(file) if r["val/nll"])


def test_one_job_of_two_fails(cli, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    code, _, err = cli(train.main, *TINY, "model.hidden=0,3", f"hydra.sweep.dir={sweep}")
    assert_only_job_0_failed(sweep, code, err)


@pytest.mark.slow
def test_joblib(cli, monkeypatch, tmp_path: Path) -> None:
    launcher = pytest.importorskip("hydra_plugins.hydra_joblib_launcher._core")
    original, returned = launcher.launch, []

    def launch(**jobs):
        returned.extend(original(**jobs))
        return returned

    monkeypatch.setattr(launcher, "launch", launch)
    sweep = tmp_path / "sweep"
    code, _, err = cli(
        train.main, *TINY, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
        "model.hidden=0,3", f"hydra.sweep.dir={sweep}",
    )  # fmt: skip
    assert_only_job_0_failed(sweep, code, err)
    assert "GPU available" not in err
    assert returned[1].return_value == best_of(sweep / "1")


@pytest.mark.slow
def test_submitit(cli, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    sweep = tmp_path / "sweep"
    code, _, err = cli(
        train.main, *TINY, "hydra/launcher=submitit_local", "model.hidden=0,3",
        f"hydra.sweep.dir={sweep}",
    )  # fmt: skip
    assert_only_job_0_failed(sweep, code, err)
    results = {}
    for path in sweep.glob(".submitit/*/*_result.pkl"):
        _, job = pickle.loads(path.read_bytes())
        results[job.hydra_cfg.hydra.job.num] = job
        log = path.with_name(path.name.replace("result.pkl", "log.err")).read_text()
        assert (f"musegen: {REFUSED}" in log) == (job.hydra_cfg.hydra.job.num == 0)
    assert results[1].return_value == best_of(sweep / "1")


SIMULATED_SLURM = {
    "sbatch": """
        last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$1")
        for i in $(seq 0 "$last"); do
            SLURM_JOB_ID=$((7100 + i)) SLURM_ARRAY_JOB_ID=7100 SLURM_ARRAY_TASK_ID=$i \\
                bash "$1" > /dev/null 2>&1 &
        done
        echo "Submitted batch job 7100"
        """,
    "srun": """
        while [[ $1 == --* ]]; do
            case $1 in
                --output) out=$2; shift ;;
                --error) err=$2; shift ;;
            esac
            shift
        done
        name() { echo "$1" | sed "s/%A/7100/g; s/%a/$SLURM_ARRAY_TASK_ID/g; s/%t/0/g"; }
        export SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NTASKS=1 \\
            SLURM_NTASKS_PER_NODE=1 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=localhost \\
            SLURM_NODELIST=localhost SLURM_JOB_NAME=musegen
        exec "$@" > "$(name "$out")" 2> "$(name "$err")"
        """,
    "sacct": """
        printf 'JobID|State|NodeList\\n7100_0|RUNNING|localhost\\n7100_1|RUNNING|localhost\\n'
        """,
}
"""The SLURM commands that submitit calls."""


@pytest.mark.slow
def test_submitit_on_a_simulated_cluster(cli, monkeypatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    for name, script in SIMULATED_SLURM.items():
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f"#!/bin/bash\n{script}")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    sweep = tmp_path / "sweep"
    code, _, err = cli(
        train.main, *TINY, "hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu",
        "model.hidden=0,3", f"hydra.sweep.dir={sweep}",
    )  # fmt: skip
    assert_only_job_0_failed(sweep, code, err)


def start(tmp_path: Path, *typed: object) -> Command:
    return Command("train.py", tmp_path, *TINY, *typed, PYTHONPATH=str(ROOT))


@pytest.mark.slow
def test_a_job_of_joblib_ends_with_its_sweep(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    sweep = tmp_path / "sweep"
    process = start(
        tmp_path, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
        "trainer.max_epochs=100000", f"hydra.sweep.dir={sweep}",
    )  # fmt: skip
    while "epoch 2/" not in process.out.read_text():
        assert process.poll() is None
        time.sleep(0.1)
    workers = descendants(process.pid)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + HANG
    try:
        while "stopped by SIGTERM after" not in process.out.read_text():
            assert time.monotonic() < deadline, "the job does not stop"
            time.sleep(0.1)
    finally:  # joblib's processes wait for five minutes before they end
        for worker in workers:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
    assert (sweep / "0" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.slow
def test_every_process_of_a_job_has_the_settings_of_the_job(tmp_path: Path) -> None:
    """Job 0 loses a process. Job 1 is trained all the same, and the sweep's exit code is 137."""
    sweep = tmp_path / "sweep"
    process = start(
        tmp_path, *TWO, "model.hidden=2,3", "optimizer.lr=0.25", f"hydra.sweep.dir={sweep}",
        "callbacks.witness._target_=tests.witness.Witness", "callbacks.witness.deadly=2",
        "callbacks.witness.folder='${run_dir}'",
    )  # fmt: skip
    out, err = process.communicate()
    assert process.returncode == 128 + signal.SIGKILL, out + err
    assert "process 1 of 2 died (SIGKILL, exit code -9); the others were ended" in err
    assert err.splitlines()[-1] == "musegen: job 0: exit code 137"
    assert not (sweep / "0" / "rank-1.json").exists()
    assert not (sweep / "0" / "test.json").exists()
    seen = [json.loads((sweep / "1" / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert seen[0] == seen[1]
    assert (seen[0]["hidden"], set(seen[0]["lr"])) == (3, {0.25})
    assert (sweep / "1" / "test.json").exists()


def test_a_sweep_resumes_every_job(cli, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    again = [*TINY, "model.hidden=2,3", f"hydra.sweep.dir={sweep}", "resume=auto"]
    for epochs in (1, 2):
        code, out, err = cli(train.main, *again, f"trainer.max_epochs={epochs}")
        assert code == 0, err
        assert "epoch 1/1" in out or epochs == 2
    assert out.count("epoch 2/2") == 2
    assert "epoch 1/2" not in out
