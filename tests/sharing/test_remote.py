"""wandb:…: which file of an artifact is loaded, and what is said if there is none.

W&B's server is replaced: `tests/wandb_server.py` takes uploads only.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_run import tiny_run

import musegen
from musegen.errors import UserError
from musegen.sharing.locate import locate

wandb = pytest.importorskip("wandb", reason="needs musegen[wandb]")


def serve(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let every artifact be this folder."""

    def artifact(name: str) -> SimpleNamespace:
        if name != "me/project/checkpoints-x:final":
            raise wandb.errors.CommError("artifact not found\nin this project")
        return SimpleNamespace(download=lambda: str(folder))

    monkeypatch.setattr(wandb, "Api", lambda: SimpleNamespace(artifact=artifact))


def test_the_best_checkpoint_of_an_artifact_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run(tmp_path / "run")
    artifact = tmp_path / "artifact"
    shutil.copytree(run / "checkpoints", artifact)  # what logger.wandb.log_model=true keeps
    serve(monkeypatch, artifact)
    name = "wandb:me/project/checkpoints-x:final"
    assert locate(name) == artifact / "best.ckpt"
    assert musegen.load(name).generate(2, seed=1) == musegen.load(run).generate(2, seed=1)
    with pytest.raises(UserError, match="wandb:me/y: artifact not found in this project"):
        musegen.load("wandb:me/y")
    shutil.rmtree(artifact)
    artifact.mkdir()
    with pytest.raises(UserError, match="has neither a shared model of musegen nor a checkpoint"):
        musegen.load(name)
