"""The speed of two processes on two cores, compared with one process on one core.

    python benchmarks/ddp_speed.py [rounds=3]

Each process has one thread. Measured are the seconds per epoch of training without validation,
without the first epoch, in turns; the ratio is the median over the rounds. Both train on the same
number of batches of the same size: each of two processes on half of them. Needs the Nottingham
set (MUSEGEN_DATA or a download).
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from musegen.cli import console

ROOT = Path(__file__).parent.parent
JOBS = {
    "rnn_rbm": ["model=rnn_rbm", "data=nottingham", "callbacks.pretraining=null",
                "trainer.limit_train_batches=130"],
    "lstm_midi": ["model=lstm_midi", "data=mozart"],
}  # fmt: skip
TWO = ["trainer.accelerator=cpu", "trainer.devices=2", "trainer.strategy=ddp"]


def seconds(job: list[str], processes: int) -> float:
    """Seconds per epoch: the median of three epochs."""
    if processes == 2:
        job = [re.sub(r"(limit_train_batches)=(\d+)", lambda m: f"{m[1]}={int(m[2]) // 2}", j)
               for j in job] + TWO  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        out = subprocess.run(
            [sys.executable, ROOT / "train.py", *job, "trainer.max_epochs=4",
             "callbacks.samples=null", "trainer.limit_val_batches=0",
             "trainer.limit_test_batches=1", "sample=null",
             "callbacks.checkpoint=null", "logger=[]", f"hydra.run.dir={folder}",
             *(["assess.frames=2", "assess.ais_steps=2", "assess.reverse_frames=0"]
               if "model=rnn_rbm" in job else [])],
            text=True, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
        ).stdout  # fmt: skip
    times = [float(t) for t in re.findall(r"^epoch .*  ([\d.]+) s", out, re.M)]
    return statistics.median(times[1:])


def main() -> None:
    rounds = int(console.key_values(sys.argv[1:]).get("rounds", 3))
    print("| | one process, s per epoch | two | times as fast |\n|---|---|---|---|")
    for name, job in JOBS.items():
        pairs = [(seconds(job, 1), seconds(job, 2)) for _ in range(rounds)]
        one, two = (statistics.median(p) for p in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"| {name} | {one:.1f} | {two:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
