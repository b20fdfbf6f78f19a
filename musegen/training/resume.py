"""Resuming a run: check that its checkpoint fits, and truncate the logs to that moment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from musegen.errors import UserError
from musegen.models import Model
from musegen.training.checkpoint_files import CheckpointFiles
from musegen.training.lightning_compat import completed_epochs
from musegen.training.loggers.media import SupportsTruncate


def prepare_resume(path: Path, model: Model, trainer: pl.Trainer) -> float:
    """Check the checkpoint and truncate the logs; returns the seconds trained so far.

    Raises `UserError` for a checkpoint of another model or optimizer, and for a run that has
    already been trained for as long as the trainer asks.
    """
    checkpoint = CheckpointFiles().load_checkpoint(path)
    if not isinstance(checkpoint, dict) or not {"seconds", "logged", "loops"} <= set(checkpoint):
        raise UserError(f"{path}: this version of musegen cannot resume from this checkpoint")
    _check_model(path, checkpoint, model)
    _check_length(path, checkpoint, trainer)
    _check_optimizer(path, checkpoint, model)
    for logger in trainer.loggers:
        if isinstance(logger, SupportsTruncate):
            logger.truncate(checkpoint["global_step"], checkpoint["logged"])
    return float(checkpoint["seconds"])


def _check_model(path: Path, checkpoint: dict[str, Any], model: Model) -> None:
    saved, current = (
        _as_set(hparams, model)
        for hparams in (checkpoint.get("hyper_parameters", {}), model.hparams)
    )
    if different := [k for k in current if saved.get(k) != current[k]]:
        changes = ", ".join(f"{k}={current[k]} (was {saved.get(k)})" for k in different)
        raise UserError(
            f"{path}: the model's settings cannot change when a run is resumed: {changes}; "
            "leave them out, or start a new run"
        )


def _as_set(hparams: Mapping[str, Any], model: Model) -> dict[str, Any]:
    """The settings, without what the training has recorded among those of the codec."""
    codec = hparams.get("codec")
    if codec is None:
        return dict(hparams)
    return {**hparams, "codec": {k: v for k, v in codec.items() if k not in model.recorded}}


def _check_length(path: Path, checkpoint: dict[str, Any], trainer: pl.Trainer) -> None:
    for unit, done, maximum in (
        ("epochs", completed_epochs(checkpoint), trainer.max_epochs),
        ("steps", checkpoint["global_step"], trainer.max_steps),
    ):
        if maximum is not None and -1 < maximum < done:
            raise UserError(
                f"{path}: {done} {unit} have been trained, more than trainer.max_{unit}={maximum}"
            )


def _check_optimizer(path: Path, checkpoint: dict[str, Any], model: Model) -> None:
    (saved,) = checkpoint["optimizer_states"]
    fresh = model.optimizer.build(model.parameters(), model.learning_rate_factors())
    if saved["param_groups"][0].keys() - {"initial_lr"} != fresh.param_groups[0].keys():
        raise UserError(
            f"{path}: the optimizer cannot change when a run is resumed, and this run was not "
            f"trained with {model.optimizer.name}"
        )
