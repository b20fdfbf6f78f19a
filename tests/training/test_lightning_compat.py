"""The private names of Lightning: they exist in the installed version, and others are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, SingleDeviceStrategy

from musegen.cli import train as train_module
from musegen.errors import UserError
from musegen.training import lightning_compat as compat
from musegen.training import trainer as trainer_module
from musegen.training.loggers.csv_table import CSV
from musegen.training.loggers.wandb_logger import WandB
from musegen.training.trainer import make_trainer
from tests.conftest import ROOT


@pytest.mark.parametrize("version", ["2.6.6", "2.6.7", "2.6.10", "2.6.6.post1"])
def test_tried_versions_are_accepted(version: str) -> None:
    compat.require_supported_lightning(version)


@pytest.mark.parametrize("version", ["2.5.0", "2.6.5", "2.7.0", "2.7.0rc1", "3.0", "1.9.5"])
def test_other_versions_are_refused_in_one_line(version: str) -> None:
    with pytest.raises(UserError) as e:
        compat.require_supported_lightning(version)
    assert str(e.value) == (
        f"pytorch-lightning {version} is not supported: pip install 'pytorch-lightning>=2.6.6,<2.7'"
    )


def refuse() -> None:
    compat.require_supported_lightning("2.7.0")


def test_the_trainer_checks_the_version(monkeypatch) -> None:
    monkeypatch.setattr(trainer_module, "require_supported_lightning", refuse)
    with pytest.raises(UserError, match=r"pytorch-lightning 2\.7\.0 is not supported"):
        make_trainer(gpus=0)


def test_the_command_checks_the_version_before_any_work(cli, monkeypatch) -> None:
    monkeypatch.setattr(train_module, "require_supported_lightning", refuse)
    code, out, err = cli(train_module.main, "modle=rbm")
    assert (code, out) == (1, "")
    assert err.startswith("musegen: pytorch-lightning 2.7.0 is not supported: ")
    assert len(err.splitlines()) == 1


def test_the_private_names_exist(tmp_path: Path) -> None:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert trainer.fit_loop.restarting is False
    assert trainer.fit_loop.epoch_loop._batches_that_stepped == 0
    assert hasattr(pl.LightningModule(), compat.CURRENT_HOOK)
    assert TensorBoardLogger(tmp_path)._kwargs == {}
    assert hasattr(CSV(tmp_path), "_experiment")
    writer = compat.MetricsWriter.__mro__[1]
    assert hasattr(writer, "_check_log_dir_exists")
    assert hasattr(writer, "_rewrite_with_new_header")


def test_a_strategy_with_its_own_processes_is_recognised() -> None:
    assert compat.copies_itself(DDPStrategy(start_method="spawn"))
    assert not compat.copies_itself(DDPStrategy())
    assert not compat.copies_itself(SingleDeviceStrategy(torch.device("cpu")))


def test_arguments_of_wandb_can_be_edited(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    logger = WandB(tmp_path, mode="offline", project="a")
    assert compat.wandb_init_arguments(logger)["project"] == "a"
    assert "anonymous" not in compat.wandb_init_arguments(logger)
    assert not compat.has_experiment(logger)
    compat.set_experiment(logger, object())
    assert compat.has_experiment(logger)


@pytest.mark.parametrize(
    ("ready", "processed", "given", "place"),
    [
        (3, 2, 3, {"epoch": 1, "given": 2}),  # the next batch has been fetched
        (3, 3, 3, {"epoch": 1, "given": 3}),  # it has not
        (5, 5, 5, {"epoch": 2, "given": 0}),  # the epoch has ended
    ],
)
def test_the_loops_are_placed_before_the_next_batch(ready, processed, given, place) -> None:
    progress = dict.fromkeys(("ready", "started", "completed"), ready) | {"processed": processed}
    loops = {
        "epoch_loop.batch_progress": {"total": progress, "current": {}, "is_last_batch": True},
        "epoch_progress": {"total": {}, "current": {}},
        "state_dict": {"combined_loader": [{"epoch": 1, "given": given}]},
    }
    checkpoint = {"loops": {"fit_loop": loops}}
    compat.place_before_next_batch(checkpoint, 5)
    assert loops["state_dict"]["combined_loader"] == [place]
    batches = loops["epoch_loop.batch_progress"]
    assert set(batches["total"].values()) == {processed}
    assert batches["is_last_batch"] is False
    assert compat.completed_epochs(checkpoint) == place["epoch"]


def test_no_other_module_uses_private_names() -> None:
    private = (
        "_batches_that_stepped", ".restarting", "batch_progress", "epoch_progress",
        "import ExperimentWriter", "_wandb_init", "_start_method", "._kwargs",
        "_step_supports_amp_scaling",
    )  # fmt: skip
    for package in ("musegen", "datamodules"):
        for path in (ROOT / package).rglob("*.py"):
            if path.name != "lightning_compat.py":
                text = path.read_text()
                assert not [name for name in private if name in text], path
