"""A tiny run for the tests of sharing: a char_rnn that has read strings 0ⁿ1ⁿ for two updates."""

from __future__ import annotations

from pathlib import Path

from musegen.cli.train import run
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config

SETTINGS = [
    "model=char_rnn", "data=anbn", "model.hidden=2", "data.train_size=8", "data.batch_size=4",
    "data.val_n=[1,2]", "data.test_n=[1,2]", "data.count_to=2", "trainer.max_epochs=1",
    "trainer.gpus=0", "sample.n=2", "sample.length=8", "callbacks.progress=null",
]  # fmt: skip


def tiny_run(folder: Path) -> Path:
    """Train into the folder and return it."""
    settings = resolve_config(compose_config([*SETTINGS, f"run_dir={folder}"]))
    run(settings | {"overrides": SETTINGS})
    return folder
