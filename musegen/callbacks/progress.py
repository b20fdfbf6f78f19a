"""One line per epoch, for terminals and log files alike."""

from __future__ import annotations

import time

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only


class EpochLines(pl.Callback):
    """Prints the epoch, the training loss, the monitored score and the seconds it took."""

    def __init__(self) -> None:
        self.started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.perf_counter()

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        seconds = time.perf_counter() - self.started
        figures = trainer.callback_metrics
        shown = ["train/loss", getattr(pl_module, "monitor", ("val/nats", "min"))[0]]
        text = "  ".join(f"{k} {float(figures[k]):.4f}" for k in shown if k in figures)
        total = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else "?"
        print(f"epoch {trainer.current_epoch + 1}/{total}  {text}  {seconds:.1f} s", flush=True)
