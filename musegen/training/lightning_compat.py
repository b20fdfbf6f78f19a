"""Every private name of PyTorch Lightning that musegen relies on, behind a plain name.

Lightning may change any of them in a new release. They were tried with PyTorch Lightning 2.6.6 and
wandb 0.31.0; `require_supported_lightning` refuses a Lightning of another minor version. To try a
new one: widen `OLDEST` and `FIRST_UNTRIED`, then run tests/training and tests/cli/test_resume.py.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import MutableMapping
from contextlib import AbstractContextManager, nullcontext, redirect_stderr
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.logger import _convert_params, _flatten_dict
from pytorch_lightning.callbacks import ModelCheckpoint, WeightAveraging
from pytorch_lightning.loggers import (
    CSVLogger,
    MLFlowLogger,
    TensorBoardLogger,
    WandbLogger,
)
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.strategies import DDPStrategy, Strategy

from musegen.errors import UserError

OLDEST, FIRST_UNTRIED = (2, 6, 6), (2, 7)
"""The supported versions: OLDEST ≤ version < FIRST_UNTRIED."""

CURRENT_HOOK = "_current_fx_name"
"""The attribute of a LightningModule in which Lightning notes the hook that is running."""


def require_supported_lightning(version: str = pl.__version__) -> None:
    """Raise `UserError` unless musegen was tried with this version of PyTorch Lightning."""
    numbers = tuple(map(int, re.findall(r"\d+", version)[:3]))
    if not OLDEST <= numbers < FIRST_UNTRIED:
        oldest, first_untried = (".".join(map(str, v)) for v in (OLDEST, FIRST_UNTRIED))
        raise UserError(
            f"pytorch-lightning {version} is not supported: "
            f"pip install 'pytorch-lightning>={oldest},<{first_untried}'"
        )


# --- Loops ----------------------------------------------------------------------------------------


def end_restart(trainer: pl.Trainer) -> None:
    """Let the loops of a resumed run continue as the loops of an uninterrupted run would.

    `place_before_next_batch` has put them in the right place. If the flag `restarting` stayed set,
    the epoch would end without the schedules that wait for a score. The loggers' step counter may
    be one too high in the checkpoint.
    """
    if trainer.fit_loop.restarting:
        trainer.fit_loop.restarting = False
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def place_before_next_batch(checkpoint: dict[str, Any], batches_per_epoch: float) -> None:
    """Edit the loops' saved progress: the next batch has been fetched, its update not started.

    This is the only place from which Lightning resumes correctly. When all batches of an epoch
    have been trained, the next batch is the first one of the next epoch. The position of the data
    loader (epoch, batches given) is the one that `datamodules.samplers` saves.
    """
    loops = checkpoint["loops"]["fit_loop"]
    batches, epochs = loops["epoch_loop.batch_progress"], loops["epoch_progress"]
    (loader,) = loops["state_dict"]["combined_loader"]
    trained = batches["total"]["processed"]
    loader["given"] -= batches["total"]["ready"] - trained
    if loader["given"] >= batches_per_epoch:
        loader.update(epoch=loader["epoch"] + 1, given=0)
    batches["total"] = dict.fromkeys(batches["total"], trained)
    batches["current"] = dict.fromkeys(batches["current"], loader["given"])
    batches["is_last_batch"] = False
    ended = loader["epoch"]
    progress = {"ready": ended + 1, "started": ended + 1, "processed": ended, "completed": ended}
    epochs.update(total=dict(progress), current=dict(progress))


def completed_epochs(checkpoint: dict[str, Any]) -> int:
    """How many epochs had ended when the checkpoint was written."""
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"])


def training_loader(trainer: pl.Trainer) -> Any:
    """The training loader that `fit` was given; `trainer.train_dataloader` is set only later."""
    return trainer.fit_loop._data_source.dataloader()


def required_datamodule(trainer: pl.Trainer, reader: str) -> Any:
    """The datamodule of the fit. Raises `UserError`, naming the `reader`, if there is none."""
    data = getattr(trainer, "datamodule", None)
    if data is None:
        raise UserError(
            f"{reader} needs a datamodule: call trainer.fit(model, datamodule=…) with one of "
            "musegen's data modules, or leave it out"
        )
    return data


def copies_itself(strategy: Strategy) -> bool:
    """Whether the strategy copies the run into new processes: ddp_spawn, ddp_fork, ddp_notebook."""
    return getattr(strategy, "_start_method", "popen") != "popen"


def reduce_in_buckets(strategy: Strategy) -> None:
    """Let the gradients be parts of DDP's buckets, which saves a copy in each direction.

    Arguments that a `DDPStrategy` was given stay as they are.
    """
    if isinstance(strategy, DDPStrategy):
        strategy._ddp_kwargs.setdefault("gradient_as_bucket_view", True)


def allow_gradient_clipping(optimizer: torch.optim.Optimizer) -> None:
    """Let Lightning clip the gradients of a fused optimizer under a loss scaler (16-mixed).

    A fused optimizer can unscale the gradients in its own step, and torch marks it with this flag.
    Lightning then refuses to clip. Without the flag Lightning unscales them before it clips them.
    """
    optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]


def without_progress_bar() -> AbstractContextManager[Any]:
    """On anything but a terminal, hide the bar of the learning rate finder, which has no switch."""
    return nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())


# --- Callbacks ------------------------------------------------------------------------------------


class WeightsFile(ModelCheckpoint):
    """Lightning's checkpoint of weights; its private hook has a plain name here."""

    def write(self, trainer: pl.Trainer, path: str) -> None:
        """Write the checkpoint."""
        super()._save_checkpoint(trainer, path)

    def _save_checkpoint(self, trainer: pl.Trainer, filepath: str) -> None:
        self.write(trainer, filepath)


class AveragedParameters(WeightAveraging):
    """Lightning's average of weights, with three differences.

    Only parameters are averaged: buffers and extra states are counts, which stay the model's own.
    Before the first update of the average, the model's own weights are validated and saved, where
    Lightning would take the initial ones. And `swap` is public, for checkpoints without the state
    of the training, which Lightning writes with the weights that are not averaged.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(use_buffers=False, **settings)

    def swap(self, pl_module: pl.LightningModule) -> None:
        """Exchange the model's weights and their average."""
        if not self._started:
            return
        for average, current in self._pairs(pl_module):
            kept = average.data.clone()
            average.data.copy_(current.data)
            current.data.copy_(kept)

    @property
    def _started(self) -> bool:
        return self._average_model is not None and bool(self._average_model.n_averaged)

    def _pairs(self, pl_module: pl.LightningModule) -> Any:
        assert self._average_model is not None
        return zip(self._average_model.module.parameters(), pl_module.parameters(), strict=True)

    def _swap_models(self, pl_module: pl.LightningModule) -> None:
        self.swap(pl_module)

    def _copy_average_to_current(self, pl_module: pl.LightningModule) -> None:
        if self._started:
            for average, current in self._pairs(pl_module):
                current.data.copy_(average.data)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        own, averaged = checkpoint["current_model_state"], checkpoint["state_dict"]
        names = dict(pl_module.named_parameters()) if self._started else {}
        checkpoint["state_dict"] = {k: averaged[k] if k in names else v for k, v in own.items()}


# --- Loggers --------------------------------------------------------------------------------------


class MetricsWriter(ExperimentWriter):
    """Lightning's writer of metrics.csv; its private hooks have plain names here."""

    def prepare_file(self) -> None:
        """Called once, before the first row is written."""

    def change_columns(self, columns: list[str]) -> None:
        """Called when a row has a metric that has no column yet."""

    def _check_log_dir_exists(self) -> None:
        self.prepare_file()

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        self.change_columns(fieldnames)


def set_experiment(logger: CSVLogger | WandbLogger, experiment: Any) -> None:
    """Set the object to which the logger writes; None lets it create a new one when needed."""
    logger._experiment = experiment


def has_experiment(logger: WandbLogger) -> bool:
    """Whether the W&B run has started."""
    return logger._experiment is not None


def wandb_init_arguments(logger: WandbLogger) -> MutableMapping[str, Any]:
    """The arguments that the logger will pass to `wandb.init`; they can be edited."""
    return logger._wandb_init


def mlflow_has_started(logger: MLFlowLogger) -> bool:
    """Whether the MLflow run has started."""
    return logger._initialized


def flat_parameters(config: Any) -> dict[str, Any]:
    """A nested config as one dict with keys such as model/hidden, as Lightning flattens it."""
    return _flatten_dict(_convert_params(config))


def purge_events_from(logger: TensorBoardLogger, step: int) -> None:
    """Let TensorBoard ignore what earlier event files hold from this step on."""
    logger._kwargs["purge_step"] = step
