"""A callback that records the training of each process, for tests that start processes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytorch_lightning as pl


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
