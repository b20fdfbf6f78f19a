"""`trainer.gpus`: the meaning of each value, with and without GPUs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pytorch_lightning.profilers import SimpleProfiler

from musegen.cli import train
from musegen.errors import UserError
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
