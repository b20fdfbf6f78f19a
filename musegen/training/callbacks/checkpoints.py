"""The checkpoint of the best epoch, and the last one, from which a run is resumed exactly."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from musegen.constraints import PositiveFloat, PositiveInt, check_arguments
from musegen.runtime.signals import Interrupts, Stopped
from musegen.training.callbacks.averaging import average_in_place
from musegen.training.lightning_compat import WeightsFile, end_restart, place_before_next_batch
from musegen.training.loggers.csv_table import CSV

BEST, LAST = "best.ckpt", "last.ckpt"
AGREE_EVERY = 10
"""Updates between two exchanges in which several processes decide whether to save or to stop."""


class Best(WeightsFile):
    """Lightning's checkpoint of the best epoch's weights; without `monitor`, of the last epoch's.

    With `callbacks=ema` or `callbacks=swa` it has the averaged weights, which were validated.
    A run folder that was moved keeps its best score.
    """

    def __init__(self, folder: Path, monitor: str | None, mode: str) -> None:
        super().__init__(
            folder,
            Path(BEST).stem,
            monitor=monitor,
            mode=mode,
            save_weights_only=True,
            enable_version_counter=False,
        )

    def write(self, trainer: pl.Trainer, path: str) -> None:
        with average_in_place(trainer):
            super().write(trainer, path)

    @cached_property
    def state_key(self) -> str:
        """Lightning's key, computed once: Lightning asks for it in every hook of every update."""
        return super().state_key

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def in_this_folder(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        scores = {in_this_folder(p): score for p, score in state_dict["best_k_models"].items()}
        moved = {"dirpath": self.dirpath, "best_k_models": scores}
        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved |= {path: in_this_folder(state_dict[path]) for path in paths}
        super().load_state_dict(state_dict | moved)


class Resumable(pl.Callback):
    """Writes `folder/last.ckpt` at intervals; `resume=<run folder>` continues from it.

    - minutes: write it when so much time has passed since the last one; null for never.
    - steps: write it when so many updates were made since the last one; null for never.

    A checkpoint is written between two updates: everything that belongs to the updates before it
    is done (validation, schedules, logging, callbacks), and nothing of the next one. The resumed
    run is then equal to the uninterrupted one to the last bit. The checkpoint is also written at
    the end of training, and after Ctrl-C or SIGTERM, which raise `Stopped` when the current update
    is done; a second signal stops at once.
    """

    @check_arguments
    def __init__(
        self, folder: Path, minutes: PositiveFloat | None = 1.0, steps: PositiveInt | None = None
    ) -> None:
        self.path = Path(folder) / LAST
        self.minutes, self.steps = minutes, steps
        self.interrupts = Interrupts()
        self._started = time.time()
        self._saved_at, self._saved_step = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        if trainer.is_global_zero:  # files that a killed process was writing
            for part in self.path.parent.glob("*.ckpt.*.part"):
                part.unlink(missing_ok=True)
        self.interrupts.catch()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        end_restart(trainer)
        if batch_idx % trainer.accumulate_grad_batches:
            return
        save, stop = self._agree(trainer, self._is_due(trainer.global_step), self.interrupts.wanted)
        if save or stop:
            self._save(trainer)
        if stop:
            raise Stopped(stop)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)
        stop = self.interrupts.wanted  # a signal may come after the last update, in validation
        if trainer.world_size > 1:
            _, stop = _maximum_over_processes(trainer, 0, stop)
        self.interrupts.release()
        if stop:
            raise Stopped(stop)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.interrupts.release()

    def _is_due(self, step: int) -> bool:
        if self.steps is not None and step - self._saved_step >= self.steps:
            return True
        waited = time.monotonic() - self._saved_at
        return self.minutes is not None and waited >= 60 * self.minutes

    def _agree(self, trainer: pl.Trainer, save: bool, stop: int) -> tuple[bool, int]:
        """Whether any process asks to save or to stop; all learn it at the same update."""
        if trainer.world_size == 1:
            return save, stop
        if trainer.global_step % AGREE_EVERY:
            return False, 0
        any_save, stop = _maximum_over_processes(trainer, int(save), stop)
        return bool(any_save), stop

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the seconds trained and the rows logged, and place the loops before a batch."""
        checkpoint["seconds"] = time.time() - self._started
        # Only the first process writes logs and checkpoints.
        tables = [log for log in trainer.loggers if isinstance(log, CSV)]
        checkpoint["logged"] = tables[0].rows() if tables and trainer.is_global_zero else 0
        place_before_next_batch(checkpoint, trainer.num_training_batches)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._started = time.time() - checkpoint["seconds"]


def _maximum_over_processes(trainer: pl.Trainer, *values: int) -> list[int]:
    """For each value, the highest one among the processes."""
    maxima = torch.tensor(values, device=trainer.strategy.root_device)
    dist.all_reduce(maxima, dist.ReduceOp.MAX)
    return maxima.tolist()


def last_checkpoint(run_dir: Path) -> Path | None:
    """The checkpoint from which this run folder's training resumes; None before the first one."""
    path = run_dir / "checkpoints" / LAST
    return path if path.exists() else None
