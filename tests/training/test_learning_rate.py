"""`tune.lr=true`: the search for the learning rate, and the run that uses its result."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tiny_run import SETTINGS

from musegen.cli import train
from musegen.errors import UserError
from musegen.training.learning_rate import steepest_descent


def test_the_rate_is_where_the_loss_falls_fastest_per_factor() -> None:
    rates = list(np.logspace(-6, 0, 61))  # ten per factor of ten
    losses = [1 / (1 + (rate / 1e-3) ** 2) for rate in rates]  # steepest at 10⁻³ over log(rate)
    assert steepest_descent(rates, losses) == pytest.approx(1e-3)
    losses[50:] = [math.nan] * 11
    assert steepest_descent(rates, losses) == pytest.approx(1e-3)


def test_too_few_losses_are_one_line() -> None:
    with pytest.raises(UserError, match="the loss is finite for 2 rates only; lower tune.max_lr"):
        steepest_descent([1e-3] * 20, [1.0] * 12 + [math.nan] * 8)


def test_the_found_rate_trains_the_run_and_its_resumption(cli, tmp_path: Path) -> None:
    tuned, plain = tmp_path / "tuned", tmp_path / "plain"
    search = ["tune.lr=true", "tune.min_lr=1e-4", "tune.steps=40", "optimizer.schedule=cosine"]
    code, out, err = cli(train.main, *SETTINGS, *search, f"hydra.run.dir={tuned}")
    assert (code, err) == (0, "")
    config = OmegaConf.load(tuned / "config.yaml")
    found = config.optimizer.lr
    assert f"learning rate: {found:.3g}, where the loss fell fastest" in out
    with open(tuned / "learning_rate.csv", newline="") as table:
        rates = [float(row["lr"]) for row in csv.DictReader(table)]
    assert rates[0] == pytest.approx(1e-4)
    assert found in rates
    assert (tuned / "learning_rate.png").stat().st_size > 1000
    assert not list(tuned.glob(".lr_find*"))
    # The search changes nothing else: the run is the one with this rate from the beginning.
    cli(
        train.main, *SETTINGS, "optimizer.schedule=cosine", f"optimizer.lr={found}",
        f"hydra.run.dir={plain}",
    )  # fmt: skip
    assert (tuned / "metrics.csv").read_bytes() == (plain / "metrics.csv").read_bytes()
    code, out, err = cli(train.main, f"resume={tuned}", "trainer.max_epochs=2")
    assert (code, err) == (0, "")
    assert "learning rate:" not in out
    assert OmegaConf.load(tuned / "config.yaml").optimizer.lr == found
    last = torch.load(tuned / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["optimizer_states"][0]["param_groups"][0]["initial_lr"] == found


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("tune.lr=maybe", "tune.lr=maybe"),
        ("tune.rate=1", "tune.rate"),
        ("tune.steps=5", "tune.steps=5: should be greater than or equal to 20"),
        ("tune.min_lr=2", "tune.min_lr=2.0: must be smaller than tune.max_lr=1.0"),
    ],
)
def test_wrong_settings_are_one_line(cli, typed: str, message: str, tmp_path: Path) -> None:
    code, _, err = cli(train.main, *SETTINGS, typed, f"hydra.run.dir={tmp_path / 'run'}")
    assert code == 1
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()
