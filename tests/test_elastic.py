"""torchrun: two nodes of one process each, and a job that is restarted by itself."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import torch

from tests.conftest import ROOT
from tests.test_ddp import descendants
from tests.test_resume import differences, end_of

JOB = ["model=char_rnn", "data=anbn", "model.hidden=6", "data.train_size=1600", "sample=null",
       "callbacks.samples=null", "callbacks.resume.steps=5", "trainer.accelerator=cpu",
       "trainer.strategy=ddp", "trainer.max_epochs=6"]  # fmt: skip


def torchrun(tmp_path: Path, options: list[str], *typed: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", *options, str(ROOT / "train.py"), *JOB,
         *typed],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_two_nodes(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    options = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=both",
               f"--rdzv-endpoint={endpoint}", "--local-addr=127.0.0.1"]  # fmt: skip
    nodes = [torchrun(tmp_path, options, "trainer.num_nodes=2", "trainer.devices=1",
                      "trainer.max_epochs=2") for _ in range(2)]  # fmt: skip
    out = [node.communicate(timeout=120)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], out
    assert "".join(out).count("device     cpu and 1 more") == 1
    run = tmp_path / "runs" / "both"
    assert json.loads((run / "test.json").read_text())["nats"] > 0
    end = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert end["global_step"] == 2 * 1600 // 32 // 2


def test_a_restarted_job_goes_on_by_itself(tmp_path: Path) -> None:
    options = ["--standalone", "--nproc-per-node=2", "--max-restarts=1"]
    whole = torchrun(tmp_path, options, "trainer.devices=2", "hydra.run.dir=whole")
    out, _ = whole.communicate(timeout=120)
    assert whole.returncode == 0, out
    hit = torchrun(tmp_path, options, "trainer.devices=2", "hydra.run.dir=hit")
    checkpoint = tmp_path / "hit" / "checkpoints" / "last.ckpt"
    while not checkpoint.exists() and hit.poll() is None:
        time.sleep(0.02)
    workers = descendants(hit.pid)
    os.kill(workers[-1], signal.SIGKILL)
    out, _ = hit.communicate(timeout=120)
    assert hit.returncode == 0, out[-3000:]
    assert len(re.findall("^resume ", out, re.M)) == 2, "it began once and went on once"
    assert not differences(end_of(tmp_path / "whole"), end_of(tmp_path / "hit"))
