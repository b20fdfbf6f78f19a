"""`trainer.gpus`: the meaning of each value, with and without GPUs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.profilers import SimpleProfiler
from pytorch_lightning.strategies import DDPStrategy, FSDPStrategy, ModelParallelStrategy
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.utils.data import DataLoader

from musegen.cli import train
from musegen.errors import UserError
from musegen.models import RBM
from musegen.specs import FrameBatch, Frames
from musegen.training.trainer import devices, make_trainer, one_device


@pytest.fixture
def sees(monkeypatch: pytest.MonkeyPatch):
    """Let torch report n GPUs; the mapping itself needs none."""

    def set_to(n: int) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n)

    return set_to


CPU = {"accelerator": "cpu", "devices": 1}


@pytest.mark.parametrize(
    ("seen", "gpus", "expected"),
    [
        (0, None, CPU),
        (0, 0, CPU),
        (2, 0, CPU),
        (2, [], CPU),
        (2, None, {"accelerator": "gpu", "devices": 1}),
        (2, 1, {"accelerator": "gpu", "devices": 1}),
        (2, 2, {"accelerator": "gpu", "devices": 2, "strategy": "ddp"}),
        (4, -1, {"accelerator": "gpu", "devices": -1, "strategy": "ddp"}),
        (1, -1, {"accelerator": "gpu", "devices": -1}),
        (4, [0, 2], {"accelerator": "gpu", "devices": [0, 2], "strategy": "ddp"}),
        (4, [3], {"accelerator": "gpu", "devices": [3]}),
    ],
)
def test_gpus_map_to_accelerator_devices_and_strategy(
    sees, seen: int, gpus, expected: dict
) -> None:
    sees(seen)
    assert devices(gpus) == expected


@pytest.mark.parametrize(
    ("seen", "gpus", "message"),
    [
        (0, 1, "torch sees 0 GPUs here; write trainer.gpus=0 for the CPU"),
        (0, -1, "torch sees 0 GPUs here; write trainer.gpus=0 for the CPU"),
        (2, 3, "torch sees 2 GPUs here; write trainer.gpus=2 or less"),
        (2, [0, 2], "torch sees 2 GPUs here"),
        (2, -2, "write a number, -1 for all"),
        (2, [-1], "write a number, -1 for all"),
    ],
)
def test_gpus_that_are_not_there_are_refused(sees, seen: int, gpus, message: str) -> None:
    sees(seen)
    with pytest.raises(UserError, match=message):
        devices(gpus)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"gpus": None, "max_epochs": 3}, {"gpus": None, "max_epochs": 3}),
        ({"gpus": 0}, {"gpus": 0}),
        ({"gpus": 4, "num_nodes": 2, "strategy": "ddp"}, {"gpus": 1}),
        ({"gpus": -1}, {"gpus": 1}),
        ({"gpus": [2, 3]}, {"gpus": [2]}),
        ({"accelerator": "cpu", "devices": 2, "strategy": "ddp"},
         {"accelerator": "cpu", "devices": 1}),
        ({"accelerator": "gpu", "devices": [1, 3]}, {"accelerator": "gpu", "devices": [1]}),
    ],
)  # fmt: skip
def test_one_device_keeps_the_first_of_many(settings: dict, expected: dict) -> None:
    assert one_device(settings) == expected


def test_lightning_arguments_pass_through() -> None:
    trainer = make_trainer(gpus=0, precision="bf16-mixed", max_epochs=7, num_nodes=1, logger=False)
    assert (trainer.precision, trainer.max_epochs, trainer.num_nodes) == ("bf16-mixed", 7, 1)


def test_accelerator_devices_and_strategy_override_gpus() -> None:
    trainer = make_trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False)
    assert trainer.num_devices == 2
    assert type(trainer.strategy).__name__ == "DDPStrategy"


def test_fast_is_bfloat16_unless_a_precision_is_given() -> None:
    assert make_trainer(gpus=0, fast=True).precision == "bf16-mixed"
    assert make_trainer(gpus=0, fast=True, precision="64-true").precision == "64-true"
    assert make_trainer(gpus=0).precision == "32-true"


TWO = {"accelerator": "cpu", "devices": 2}


@pytest.mark.parametrize(
    ("strategy", "view"),
    [
        ("auto", True),
        ("ddp", True),
        ("ddp_find_unused_parameters_true", True),
        (DDPStrategy(gradient_as_bucket_view=False), False),
    ],
    ids=["auto", "ddp", "unused", "given"],
)
def test_gradients_are_parts_of_the_buckets_of_ddp(strategy: Any, view: bool) -> None:
    trainer = make_trainer(**TWO, strategy=strategy)
    assert trainer.strategy._ddp_kwargs["gradient_as_bucket_view"] is view


@pytest.mark.parametrize(
    "strategy",
    ["fsdp", "fsdp_cpu_offload", "deepspeed_stage_2", FSDPStrategy(), ModelParallelStrategy()],
    ids=["fsdp", "offload", "deepspeed", "FSDPStrategy", "ModelParallelStrategy"],
)
def test_a_strategy_without_all_weights_in_one_process_is_one_line(strategy: Any) -> None:
    with pytest.raises(UserError, match=r"trainer.strategy=\w+: not supported.*=ddp$"):
        make_trainer(**TWO, strategy=strategy)


class Reductions(pl.Callback):
    """Counts how often DDP adds up a bucket of gradients, and notes the batches of these times."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        def count(state, bucket):  # torch refuses annotations that are strings
            self.batches.append(trainer.fit_loop.total_batch_idx)
            return allreduce_hook(None, bucket)

        trainer.strategy.model.register_comm_hook(None, count)


@pytest.mark.parametrize(("accumulated", "batches"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4])])
def test_accumulated_gradients_are_added_up_once_per_update(
    accumulated: int, batches: list[int]
) -> None:
    """Lightning's `no_sync`: the last batch of an epoch makes an update of its own."""
    reductions = Reductions()
    trainer = make_trainer(
        accelerator="cpu", devices=1, strategy="ddp", accumulate_grad_batches=accumulated,
        max_epochs=1, limit_val_batches=0, logger=False, enable_checkpointing=False,
        callbacks=[reductions],
    )  # fmt: skip
    frames = [FrameBatch(torch.eye(4)) for _ in range(5)]
    try:
        model = RBM(Frames(4), hidden=2, k=1, monitor_every=0)
        trainer.fit(model, train_dataloaders=DataLoader(frames, batch_size=None))
    finally:
        dist.destroy_process_group()
    assert trainer.global_step == len(batches)
    assert reductions.batches == batches


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"precision": "16-mixt"}, "trainer: .*16-mixt"),
        ({"accelerator": "gpu"}, "trainer: No supported gpu backend found!"),
    ],
)
def test_a_value_that_lightning_refuses_gives_one_line(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as e:
        make_trainer(**settings)
    assert "\n" not in str(e.value)


def test_nothing_is_profiled_by_default() -> None:
    with make_trainer(gpus=0).profiler.profile("anything") as seen:
        assert seen is None
    assert isinstance(make_trainer(gpus=0, profiler="simple").profiler, SimpleProfiler)


@pytest.mark.parametrize("name", ["simple", "advanced"])
def test_a_profiler_prints_its_table_and_writes_it_into_the_run_folder(
    cli, tmp_path: Path, name: str
) -> None:
    tiny = ["model=char_rnn", "data=anbn", "data.train_size=50", "data.count_to=5",
            "model.hidden=4", "trainer.max_epochs=1", "sample=null", "callbacks.samples=null",
            f"trainer.profiler={name}"]  # fmt: skip
    run = tmp_path / "run"
    code, out, err = cli(train.main, *tiny, f"hydra.run.dir={run}")
    assert code == 0, err
    (table,) = run.glob("fit-profile*.txt")
    assert "optimizer_step" in table.read_text()
    assert table.read_text().strip() in out
    assert f"profile {table}" in out
