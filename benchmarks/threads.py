"""The choice of the number of CPU threads, with and without other programs on the same cores.

    PYTHONPATH=. python benchmarks/threads.py [family ...]

For every family of models: `Trainer.fit` of some updates with one thread, with all threads, and
with the number that `callbacks.threads` chooses, in turns; first on a machine as quiet as it is,
then a fifth of the updates beside one busy loop per core. The times are those of an update, and
what the choice itself takes stands beside them. Without names it runs all families, which takes
about ten minutes. Needs the data sets of MUSEGEN_DATA (or downloads).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch

from musegen.cli import console
from musegen.config.instantiation import build_data, build_model, build_trainer
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config

FAMILIES = {
    "rbm": (["model=rbm", "data=mnist"], 400),
    "rnn_rbm": (["model=rnn_rbm", "data=jsb", "callbacks=default"], 100),
    "rnn_nade": (["model=rnn_nade", "data=jsb"], 60),
    "biaxial_lstm": (["model=biaxial_lstm", "data=jsb"], 10),
    "char_rnn": (["model=char_rnn", "data=names"], 60),
    "lstm_midi": (["model=lstm_midi", "data=mozart"], 20),
}
"""Overrides of each family, and a number of updates that takes a few seconds with one thread."""
ROUNDS = 3
BUSY_LOOP = [sys.executable, "-c", "while True: pass"]


class Stopwatch(pl.Callback):
    """The seconds of an update, without the first one, and of what the other callbacks do before
    it."""

    def __init__(self) -> None:
        self.choosing = self.update = 0.0
        self._mark = perf_counter()

    def setup(self, *_: Any, **__: Any) -> None:
        self._mark = perf_counter()

    def on_train_start(self, *_: Any) -> None:  # after the choice: callbacks run in their order
        self.choosing = perf_counter() - self._mark

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 1:
            self._mark = perf_counter()

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.update = (perf_counter() - self._mark) / (trainer.global_step - 1)


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """So many other programs that never wait."""
    processes = [subprocess.Popen(BUSY_LOOP) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def train(family: str, data: Any, count: int | None, updates: int) -> tuple[float, float, int]:
    """Seconds of an update, seconds of the choice, and the number of threads."""
    overrides = FAMILIES[family][0]
    torch.set_num_threads(count or os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        settings = resolve_config(compose_config([*overrides, f"run_dir={folder}", "logger=[]"]))
        threads = settings["callbacks"]["threads"]
        settings["callbacks"] = {"threads": {**threads, "count": count}}
        settings["trainer"] |= {
            "max_steps": updates, "max_epochs": -1, "limit_val_batches": 0,
            "enable_checkpointing": False,
        }  # fmt: skip
        watch = Stopwatch()
        trainer = build_trainer(settings, callbacks=[watch])
        with redirect_stdout(StringIO()):  # the choice is printed in each run
            trainer.fit(build_model(settings, data), datamodule=data)
    return watch.update, watch.choosing, torch.get_num_threads()


def row(family: str, data: Any, load: int) -> str:
    """A row of the table: medians over the rounds."""
    counts = (1, os.cpu_count() or 1, None)
    updates = FAMILIES[family][1] // (5 if load else 1)
    with busy_loops(load):
        rounds = [[train(family, data, count, updates) for count in counts] for _ in range(ROUNDS)]
    seconds = [[run[0] for run in round_] for round_ in rounds]
    one, every, chosen = (statistics.median(column) for column in zip(*seconds, strict=True))
    against_best = statistics.median(c / min(a, b) for a, b, c in seconds)
    against_one = statistics.median(c / a for a, _, c in seconds)
    choice = statistics.median(round_[2][1] for round_ in rounds)
    numbers = ", ".join(str(round_[2][2]) for round_ in rounds)
    times = " | ".join(f"{1e3 * t:.1f}" for t in (one, every, chosen))
    return (
        f"| `{family}` | {load} | {times} | {numbers} "
        f"| {against_best:.2f} | {against_one:.2f} | {choice:.1f} |"
    )


def main() -> None:
    console.quiet()
    if "OMP_NUM_THREADS" in os.environ:
        raise SystemExit("unset OMP_NUM_THREADS: with it there is no choice")
    print("| model | busy loops | one thread (ms) | all (ms) | chosen (ms) | threads chosen "
          "| chosen ÷ better | chosen ÷ one thread | the choice (s) |")  # fmt: skip
    print("|---" * 9 + "|")
    with console.one_line_errors():
        for family in sys.argv[1:] or FAMILIES:
            if family not in FAMILIES:
                raise SystemExit(f"no family {family}; there are {', '.join(FAMILIES)}")
            pl.seed_everything(1, verbose=False)
            data = build_data(resolve_config(compose_config([*FAMILIES[family][0], "run_dir=."])))
            data.prepare_data()
            data.setup()
            for load in (0, os.cpu_count() or 1):
                print(row(family, data, load), flush=True)


if __name__ == "__main__":
    main()
