"""`callbacks=early_stopping` ends a training whose score no longer improves."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from tiny_run import SETTINGS

from musegen.cli import train


def test_the_training_ends_after_the_patience(cli, tmp_path: Path) -> None:
    code, _, err = cli(
        train.main, *SETTINGS, "callbacks=early_stopping", "callbacks.early_stopping.patience=2",
        "optimizer.lr=1e-30", "trainer.max_epochs=9", f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert (code, err) == (0, "")
    with open(tmp_path / "run" / "metrics.csv", newline="") as table:
        scores = [row["val/nll"] for row in csv.DictReader(table) if row.get("val/nll")]
    assert len(scores) == 3  # the first one, and two that are not better
    assert json.loads((tmp_path / "run" / "test.json").read_text())["nll"] > 0
