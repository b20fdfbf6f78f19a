"""`tune.lr=true`: a search for the learning rate before the training (Smith 2017).

A copy of the model makes one update with each of several growing learning rates. The rate at which
the smoothed loss falls fastest, per factor of the rate, is the one that the run trains with.
"""

from __future__ import annotations

import copy
import csv
import dataclasses
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning.tuner import Tuner

from musegen.config.instantiation import build_trainer
from musegen.config.tune import Tune
from musegen.errors import UserError
from musegen.models import Model
from musegen.render.plots import learning_rate_curve
from musegen.runtime.atomic import replacing
from musegen.training.lightning_compat import without_progress_bar

CURVE, TABLE = "learning_rate.png", "learning_rate.csv"
UNSMOOTHED = 10
"""The first losses are left out: the running mean has seen too few updates."""


def tune_learning_rate(settings: dict[str, Any], model: Model, data: Any) -> dict[str, Any]:
    """Let the model's optimizer have the rate of the search; returns the settings with that rate.

    The curve and its numbers are written into the run folder. Neither the model nor the random
    streams change, so the run is the one that `optimizer.lr=RATE` would have been. Raises
    `UserError` if the loss is finite for too few rates.
    """
    tune, folder = Tune(**settings["tune"]), Path(settings["run_dir"])
    print(f"learning rate: trying {tune.min_lr:g} … {tune.max_lr:g}", flush=True)
    lr_N, loss_N = losses_by_rate(settings, tune, model, data)
    found = steepest_descent(lr_N, loss_N)
    _write_curve(folder, lr_N, loss_N, found)
    print(f"learning rate: {found:.3g}, where the loss fell fastest ({folder / CURVE})", flush=True)
    model.optimizer = dataclasses.replace(model.optimizer, lr=found)
    overrides = [o for o in settings["overrides"] if not o.startswith(("tune.", "optimizer.lr="))]
    return settings | {
        "optimizer": settings["optimizer"] | {"lr": found},
        "overrides": [*overrides, f"optimizer.lr={found}"],
    }


def losses_by_rate(
    settings: dict[str, Any], tune: Tune, model: Model, data: Any
) -> tuple[list[float], list[float]]:
    """The rates that were tried, and the running mean of the loss at each."""
    candidate = copy.deepcopy(model)
    with suppress(AttributeError):
        del candidate.losses  # compiled, it would be that of the model itself
    candidate.requires_finite_loss = False
    trainer = build_trainer(settings | {"trainer": _endless(settings["trainer"])}, bare=True)
    with torch.random.fork_rng(), without_progress_bar():
        finder = Tuner(trainer).lr_find(
            candidate,
            datamodule=data,
            min_lr=tune.min_lr,
            max_lr=tune.max_lr,
            num_training=tune.steps,
            update_attr=False,
        )
    assert finder is not None
    rates, losses = finder.results["lr"], finder.results["loss"]
    return rates[: len(losses)], losses


def _endless(trainer: dict[str, Any]) -> dict[str, Any]:
    """The trainer's settings, without an end and without validation."""
    limits = ("max_time", "min_epochs", "min_steps", "fast_dev_run", "val_check_interval")
    return {k: v for k, v in trainer.items() if k not in (*limits, "profiler")} | {
        "max_epochs": -1,
        "max_steps": -1,
        "num_sanity_val_steps": 0,
        "check_val_every_n_epoch": 10**9,
    }


def steepest_descent(lr_N: Sequence[float], loss_N: Sequence[float]) -> float:
    """The rate at which the loss falls fastest, d loss / d log(rate).

    Lightning's own suggestion divides by the difference of the rates, not of their logarithms. The
    noise of the smallest rates, whose differences are tiny, then decides.
    """
    rates, losses = (np.asarray(x[UNSMOOTHED:], float) for x in (lr_N, loss_N))
    rates, losses = rates[np.isfinite(losses)], losses[np.isfinite(losses)]
    if len(losses) < 3:
        raise UserError(
            f"tune.lr=true: the loss is finite for {len(losses)} rates only; lower tune.max_lr, or "
            "set optimizer.lr yourself"
        )
    return float(rates[np.argmin(np.gradient(losses, np.log(rates)))])


def _write_curve(
    folder: Path, lr_N: Sequence[float], loss_N: Sequence[float], found: float
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    learning_rate_curve(lr_N, loss_N, found, folder / CURVE)
    with replacing(folder / TABLE, newline="") as file:
        table = csv.writer(file)
        table.writerow(["lr", "loss"])
        table.writerows(zip(lr_N, loss_N, strict=True))
