"""Checkpoints: the best epoch's and the last one's, each epoch written once."""

from __future__ import annotations

import os
import shutil

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor


class Checkpoints(ModelCheckpoint):
    """Lightning's, but `last` is of the last epoch, and a copy where that is the best so far.

    Lightning 2.6 leaves `last` where it was in an epoch that was not the best, and else writes
    weights and optimiser out a second time: 3 % of the default job's epoch for the two files.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self._should_save_on_train_epoch_end(trainer):
            self._save_last_unless_saved(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not self._should_save_on_train_epoch_end(trainer):
            self._save_last_unless_saved(trainer)

    def _save_last_unless_saved(self, trainer: pl.Trainer) -> None:
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def _save_last_checkpoint(
        self, trainer: pl.Trainer, monitor_candidates: dict[str, Tensor]
    ) -> None:
        saved_now = self._last_global_step_saved == trainer.global_step
        if not (self.save_last and saved_now and self._last_checkpoint_saved):
            super()._save_last_checkpoint(trainer, monitor_candidates)
            return
        last = self.format_checkpoint_name(monitor_candidates, self.CHECKPOINT_NAME_LAST)
        if trainer.is_global_zero:
            part = f"{last}.part"
            shutil.copyfile(self._last_checkpoint_saved, part)
            os.replace(part, last)
        self.last_model_path = last
        trainer.strategy.barrier()
