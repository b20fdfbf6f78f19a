"""Progress of training, validation and test: bars on a terminal, and a line after each epoch."""

from __future__ import annotations

import math
import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from musegen.runtime.progress import Work, begin


class TrainingProgress(pl.Callback):
    """Shows the updates made, the time left, and after each epoch the loss and the score.

    The time left is that of the complete training, validation included.
    """

    def __init__(self) -> None:
        self.epoch_started = 0.0
        self.work, self.evaluation = Work("", None, ""), Work("", None, "")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        steps = float(trainer.estimated_stepping_batches)
        total = steps if math.isfinite(steps) else None
        self.work = begin("training", total, "updates", done=trainer.global_step)
        # Lightning does not call this hook when a run is resumed in the middle of an epoch.
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epoch_started = time.perf_counter()
        self.work.what = _epoch(trainer)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        self.work.at(trainer.global_step)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.evaluation = begin("validating", sum(trainer.num_val_batches), "batches")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.evaluation = begin("testing", sum(trainer.num_test_batches), "batches")

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any,
        batch_idx: int, dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        self.evaluation.at(batch_idx + 1)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.evaluation.close()

    on_test_batch_end, on_test_end = on_validation_batch_end, on_validation_end

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self.epoch_started
        metrics = trainer.callback_metrics
        shown = ["train/loss", getattr(pl_module, "monitor", ("val/nll", "min"))[0]]
        self.work.note = "  ".join(f"{k} {float(metrics[k]):.4f}" for k in shown if k in metrics)
        parts = [_epoch(trainer), self.work.note, f"{seconds:.1f} s", self.work.left()]
        print(*filter(None, parts), sep="  ", flush=True)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.work.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.evaluation.close()
        self.work.close()


def _epoch(trainer: pl.Trainer) -> str:
    total = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else "?"
    return f"epoch {trainer.current_epoch + 1}/{total}"
