"""Averaged weights: what is averaged, what is tested, and how a run with them is resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from tiny_run import SETTINGS

from musegen.cli.train import run
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config

WITH_COUNTS = [*SETTINGS, "optimizer.schedule=none", "model.ngram_weight=0.3", "optimizer.lr=0.05"]


class Weights(pl.Callback):
    """Keeps the weights after each update, by the number of updates."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, torch.Tensor]] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.keep(trainer, pl_module)

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.keep(trainer, pl_module)

    def keep(self, trainer, pl_module) -> None:
        weights = {k: p.detach().clone() for k, p in pl_module.named_parameters()}
        self.after[trainer.global_step] = weights


def train(folder: Path, *typed: str, resume: bool = False) -> dict[int, dict]:
    weights = Weights()
    where = [f"run_dir={folder}", *([f"resume={folder}"] if resume else [])]
    run(resolve_config(compose_config([*WITH_COUNTS, *typed, *where])), [weights])
    return weights.after


def saved(folder: Path, name: str) -> dict:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def test_the_moving_average_is_what_is_saved_and_tested(tmp_path: Path) -> None:
    weights = train(tmp_path, "callbacks=ema", "callbacks.ema.decay=0.75")
    w1, w2 = weights[1], weights[2]
    best, last = saved(tmp_path, "best"), saved(tmp_path, "last")
    for name in w1:
        average = 0.75 * w1[name] + 0.25 * w2[name]
        torch.testing.assert_close(best["state_dict"][name], average)
        torch.testing.assert_close(last["state_dict"][name], average)
        assert torch.equal(last["current_model_state"][name], w2[name])
        assert not torch.equal(average, w2[name])
    # What was counted is no average: it is that of the model.
    counts, own = best["state_dict"], last["current_model_state"]
    assert counts["ngram._extra_state"] == own["ngram._extra_state"] is not None


def test_before_its_start_the_average_is_the_model(tmp_path: Path) -> None:
    weights = train(tmp_path, "callbacks=ema", "callbacks.ema.start_step=100")
    for file in ("best", "last"):
        state = saved(tmp_path, file)["state_dict"]
        assert all(torch.equal(state[name], w) for name, w in weights[2].items())


def test_swa_is_the_mean_over_the_ends_of_epochs(tmp_path: Path) -> None:
    typed = ["callbacks=swa", "callbacks.swa.start_epoch=2", "trainer.max_epochs=3"]
    weights = train(tmp_path, *typed)
    last = saved(tmp_path, "last")["state_dict"]
    for name in weights[0]:  # two updates in each epoch
        mean = (weights[4][name] + weights[6][name]) / 2
        torch.testing.assert_close(last[name], mean)


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_a_resumed_run_continues_the_average(kind: str, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, f"callbacks={kind}", "trainer.max_epochs=2")
    train(parts, f"callbacks={kind}")
    train(parts, f"callbacks={kind}", "trainer.max_epochs=2", resume=True)
    for key in ("state_dict", "current_model_state"):
        expected, found = (saved(folder, "last")[key] for folder in (whole, parts))
        assert all(torch.equal(found[k], v) for k, v in expected.items() if torch.is_tensor(v))
    assert (whole / "test.json").read_bytes() == (parts / "test.json").read_bytes()
