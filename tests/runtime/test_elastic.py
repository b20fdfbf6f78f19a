"""Jobs that torchrun and SLURM start: on two nodes, and restarted automatically."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from tests.cli.test_resume import differences, end_of
from tests.conftest import ROOT
from tests.processes import HANG, Command
from tests.runtime.test_distributed import descendants

JOB = ["model=char_rnn", "data=anbn", "model.hidden=6", "data.train_size=1600", "sample=null",
       "callbacks.samples=null", "callbacks.resume.steps=5", "trainer.accelerator=cpu",
       "trainer.strategy=ddp", "trainer.max_epochs=6"]  # fmt: skip


def pause(file: Path) -> list[str]:
    """Let the run wait after update 20 until the file exists."""
    target = "callbacks.pause._target_=tests.witness.Pause"
    return [target, "callbacks.pause.step=20", f"callbacks.pause.file={file}"]


def torchrun(
    tmp_path: Path, options: list[str], *typed: str, host: Sequence[str] = (), **more: str
) -> subprocess.Popen:
    return subprocess.Popen(
        [*host, sys.executable, "-m", "torch.distributed.run", *options, str(ROOT / "train.py"),
         *JOB, *typed],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)} | more,
    )  # fmt: skip


@pytest.mark.slow
def test_two_nodes_train_one_model(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=both",
               f"--rdzv-endpoint={endpoint}", "--local-addr=127.0.0.1"]  # fmt: skip
    nodes = [torchrun(tmp_path, options, "trainer.num_nodes=2", "trainer.devices=1",
                      "trainer.max_epochs=2") for _ in range(2)]  # fmt: skip
    out = [node.communicate(timeout=HANG)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], out
    assert "".join(out).count("device     cpu and 1 more") == 1
    run = tmp_path / "runs" / "both"
    assert json.loads((run / "test.json").read_text())["nll"] > 0
    end = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert end["global_step"] == 2 * 1600 // 32 // 2


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces connected by one cable, as 10.0.0.1 and 10.0.0.2."""
    if shutil.which("ip") is None:
        pytest.skip("ip (iproute2) is not installed")
    names = [f"musegen-{os.getpid()}-{i}" for i in (1, 2)]

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)

    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("link", "add", "cable", "netns", names[0], "type", "veth",
               "peer", "name", "cable", "netns", names[1])  # fmt: skip
            for i, name in enumerate(names, start=1):
                ip("-n", name, "addr", "add", f"10.0.0.{i}/24", "dev", "cable")
                for device in ("lo", "cable"):
                    ip("-n", name, "link", "set", device, "up")
        except subprocess.CalledProcessError as e:
            pytest.skip(f"network namespaces are not permitted here: {e.stderr.strip()}")
        yield names
    finally:
        for name in names:
            inside = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True)
            for pid in inside.stdout.split():
                os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "del", name], capture_output=True)


@pytest.mark.slow
def test_two_hosts_restart_when_one_loses_its_process(hosts: list[str], tmp_path: Path) -> None:
    """Both hosts restart their processes, which resume from the last checkpoint."""
    options = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=both",
               "--rdzv-endpoint=10.0.0.1:29400", "--max-restarts=1"]  # fmt: skip
    # The namespaces have the same hostname, so the address cannot be found from it.
    nodes = [
        torchrun(
            tmp_path,
            [*options, f"--local-addr=10.0.0.{i}", f"--rdzv-conf=is_host={int(i == 1)}"],
            "trainer.num_nodes=2", "trainer.devices=1", *pause(tmp_path / "go"),
            host=["ip", "netns", "exec", name],
            GLOO_SOCKET_IFNAME="cable", RES_OPTIONS="attempts:1 timeout:1",
        )
        for i, name in enumerate(hosts, start=1)
    ]  # fmt: skip
    run = tmp_path / "runs" / "both"
    checkpoint = run / "checkpoints" / "last.ckpt"
    while not checkpoint.exists() and nodes[1].poll() is None:
        time.sleep(0.02)
    (worker,) = descendants(nodes[1].pid)
    os.kill(worker, signal.SIGKILL)
    (tmp_path / "go").touch()
    out = [node.communicate(timeout=HANG)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], out
    assert len(re.findall("^resume ", "".join(out), re.M)) == 2, "one start and one resume"
    assert json.loads((run / "test.json").read_text())["nll"] > 0
    end = torch.load(checkpoint, weights_only=True)
    assert end["global_step"] == 6 * 1600 // 32 // 2


@pytest.mark.slow
def test_a_restarted_job_resumes_by_itself(tmp_path: Path) -> None:
    options = ["--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    uninterrupted = torchrun(tmp_path, options, "trainer.devices=2", "hydra.run.dir=uninterrupted")
    out, _ = uninterrupted.communicate(timeout=HANG)
    assert uninterrupted.returncode == 0, out
    go = tmp_path / "go"
    killed = torchrun(
        tmp_path, options, "trainer.devices=2", "hydra.run.dir=killed", *pause(go)
    )  # fmt: skip
    checkpoint = tmp_path / "killed" / "checkpoints" / "last.ckpt"
    while not checkpoint.exists() and killed.poll() is None:
        time.sleep(0.02)
    workers = descendants(killed.pid)
    os.kill(workers[-1], signal.SIGKILL)
    go.touch()
    out, _ = killed.communicate(timeout=HANG)
    assert killed.returncode == 0, out[-3000:]
    assert len(re.findall("^resume ", out, re.M)) == 2, "one start and one resume"
    assert not differences(end_of(tmp_path / "uninterrupted"), end_of(tmp_path / "killed"))


@pytest.mark.slow
def test_a_slurm_job_that_is_queued_again_resumes(tmp_path: Path) -> None:
    """Started like srun, stopped like SLURM, and started again with the same command."""

    go = tmp_path / "go"

    def srun(restart: int) -> list[Command]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        job = {"SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "mozart", "SLURM_NTASKS": "2",
               "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0",
               "SLURM_NODELIST": "localhost", "SLURM_RESTART_COUNT": str(restart),
               "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
        return [
            Command("train.py", tmp_path, *JOB, *pause(go), "trainer.devices=2", **job,
                    SLURM_PROCID=str(i), SLURM_LOCALID=str(i))
            for i in range(2)
        ]  # fmt: skip

    checkpoint = tmp_path / "runs" / "slurm-4711" / "checkpoints" / "last.ckpt"
    tasks = srun(0)
    while not checkpoint.exists() and tasks[0].poll() is None:
        time.sleep(0.02)
    for task in tasks:
        task.terminate()
    go.touch()
    out = ["".join(task.communicate()) for task in tasks]
    assert [task.returncode for task in tasks] == [128 + signal.SIGTERM] * 2, out
    reached = torch.load(checkpoint, weights_only=True)["global_step"]
    assert reached < 6 * 1600 // 32 // 2
    tasks = srun(1)
    out = ["".join(task.communicate()) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], out
    assert "".join(out).count("device     cpu and 1 more") == 1
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["slurm-4711"]
    epochs = {line.split()[1] for line in "".join(out).splitlines() if line.startswith("epoch ")}
    done = reached // (1600 // 32 // 2)
    assert epochs == {f"{n}/6" for n in range(done + 1, 7)}
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 6 * 1600 // 32 // 2
