"""The best epoch's checkpoint, and the last one, from which a run goes on as if never stopped."""

from __future__ import annotations

import time
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.callbacks import ModelCheckpoint

from musegen.errors import UserError
from musegen.runtime.signals import Interrupts, Stopped
from musegen.training.loggers.csv_table import CSV

BEST, LAST = "best.ckpt", "last.ckpt"
AGREE_EVERY = 10
"""Updates between two agreements of several processes on whether to save or to stop."""


class Best(ModelCheckpoint):
    """Lightning's, for the weights of the best epoch, or without `monitor` of the last one.

    A run folder that was moved keeps its score.
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

    @cached_property
    def state_key(self) -> str:
        """Lightning's, made once: it asks for it in every hook of every update."""
        return super().state_key

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        scores = {here(path): score for path, score in state_dict["best_k_models"].items()}
        moved = {"dirpath": self.dirpath, "best_k_models": scores}
        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved |= {path: here(state_dict[path]) for path in paths}
        super().load_state_dict(state_dict | moved)


class Resumable(pl.Callback):
    """Writes `folder/last.ckpt` every so often; `resume=<run folder>` goes on from it.

    - minutes, steps: how long after the last one; null leaves that clock out.

    A checkpoint stands between two updates: all that belongs to those before has been done
    (validation, schedules, logging, callbacks), nothing of the next. The resumed run is then
    bit for bit the uninterrupted one. It is also written at the end of training, and after Ctrl-C
    or SIGTERM, which raise `Stopped` as soon as the update is done; a second one stops at once.

    Raises `UserError` for clocks that do not move on.
    """

    def __init__(self, folder: Path, minutes: float | None = 1.0, steps: int | None = None) -> None:
        if (minutes is not None and minutes <= 0) or (steps is not None and steps < 1):
            raise UserError(
                f"callbacks.resume: minutes={minutes} must be above 0 and steps={steps} at least 1"
            )
        self.path = Path(folder) / LAST
        self.minutes, self.steps = minutes, steps
        self.interrupts = Interrupts()
        self._began = time.time()
        self._saved_at, self._saved_step = 0.0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        if trainer.is_global_zero:  # what a killed process was writing
            for part in self.path.parent.glob("*.ckpt.*.part"):
                part.unlink(missing_ok=True)
        self.interrupts.catch()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.fit_loop.restarting:
            # The loops stand where they should. Left on, this would let the epoch end without
            # the schedules that wait for a score; and the loggers' count may be one too many.
            trainer.fit_loop.restarting = False
            trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step
        if batch_idx % trainer.accumulate_grad_batches:
            return
        save, stop = self._agreed(trainer, self._due(trainer.global_step), self.interrupts.wanted)
        if save or stop:
            self._save(trainer)
        if stop:
            raise Stopped(stop)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)
        stop = self.interrupts.wanted  # it came after the last update, as in the last validation
        if trainer.world_size > 1:
            _, stop = _highest(trainer, 0, stop)
        self.interrupts.release()
        if stop:
            raise Stopped(stop)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        self.interrupts.release()

    def _due(self, step: int) -> bool:
        if self.steps is not None and step - self._saved_step >= self.steps:
            return True
        waited = time.monotonic() - self._saved_at
        return self.minutes is not None and waited >= 60 * self.minutes

    def _agreed(self, trainer: pl.Trainer, save: bool, stop: int) -> tuple[bool, int]:
        """Whether any process wants to save or to stop, known to all at the same update."""
        if trainer.world_size == 1:
            return save, stop
        if trainer.global_step % AGREE_EVERY:
            return False, 0
        wanted, stop = _highest(trainer, int(save), stop)
        return bool(wanted), stop

    def _save(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add how far time and logs have come, and place the loops before a batch.

        From there alone Lightning goes on rightly. It is the batch that has been fetched when an
        update is about to begin, the first of the next epoch when all have been.
        """
        checkpoint["seconds"] = time.time() - self._began
        # The first process alone writes logs, as it does checkpoints.
        tables = [log for log in trainer.loggers if isinstance(log, CSV)]
        checkpoint["logged"] = tables[0].rows() if tables and trainer.is_global_zero else 0
        loops = checkpoint["loops"]["fit_loop"]
        batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
        (place,) = loops["state_dict"]["combined_loader"]
        done = batches["total"]["processed"]
        place["given"] -= batches["total"]["ready"] - done
        if place["given"] >= trainer.num_training_batches:
            place.update(epoch=place["epoch"] + 1, given=0)
        batches["total"] = dict.fromkeys(batches["total"], done)
        batches["current"] = dict.fromkeys(batches["current"], place["given"])
        batches["is_last_batch"] = False
        past = place["epoch"]
        begun = {"ready": past + 1, "started": past + 1, "processed": past, "completed": past}
        epochs.update(total=dict(begun), current=dict(begun))

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._began = time.time() - checkpoint["seconds"]


def _highest(trainer: pl.Trainer, *wishes: int) -> list[int]:
    """Of each wish the highest number among the processes."""
    every = torch.tensor(wishes, device=trainer.strategy.root_device)
    dist.all_reduce(every, dist.ReduceOp.MAX)
    return every.tolist()


def last_checkpoint(run_dir: Path) -> Path | None:
    """The checkpoint from which this run folder's training goes on; None before the first."""
    path = run_dir / "checkpoints" / LAST
    return path if path.exists() else None
