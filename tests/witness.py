"""Callbacks for tests that start processes: a record, a pause, and patience with signals."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytorch_lightning as pl

from musegen.runtime import signals


class Witness(pl.Callback):
    """Writes `folder/rank-N.json` at the end of training.

    If the model has `deadly` hidden units, the second process kills itself instead.
    """

    def __init__(self, folder: Path, deadly: int = 0) -> None:
        self.folder, self.deadly = folder, deadly

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        hidden = pl_module.hparams["hidden"]
        if hidden == self.deadly and trainer.global_rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        rates = [group["initial_lr"] for group in trainer.optimizers[0].param_groups]
        weights = [p.flatten().tolist() for p in pl_module.parameters()]
        recorded = {"hidden": hidden, "lr": rates, "weights": weights}
        (self.folder / f"rank-{trainer.global_rank}.json").write_text(json.dumps(recorded))


class Patient(pl.Callback):
    """Lets a repeated signal count as the same one, however late it comes on a busy computer."""

    def __init__(self) -> None:
        signals.PATIENCE = float("inf")


class Pause(pl.Callback):
    """Waits after update `step` until `file` exists, so that a test can send a signal in time."""

    def __init__(self, file: Path, step: int) -> None:
        self.file, self.step = file, step

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        while trainer.global_step == self.step and not self.file.exists():
            time.sleep(0.02)
