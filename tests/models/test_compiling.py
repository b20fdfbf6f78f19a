"""`model.compile=true`: the same training with a compiled loss."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from tiny_run import SETTINGS, tiny_run

from musegen.cli import train
from musegen.config.instantiation import build_data, build_model
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.errors import UserError
from musegen.models import load_model


@pytest.mark.slow
def test_a_compiled_run_is_the_same_run(cli, tmp_path: Path) -> None:
    tiny_run(tmp_path / "eager")
    compiled = [*SETTINGS, "model.compile=true", f"hydra.run.dir={tmp_path / 'compiled'}"]
    code, _, err = cli(train.main, *compiled)
    assert (code, err) == (0, "")
    eager, compiled = (
        load_model(tmp_path / run / "checkpoints" / "best.ckpt") for run in ("eager", "compiled")
    )
    assert eager.state_dict().keys() == compiled.state_dict().keys()
    assert eager.hparams == compiled.hparams
    for name, weight in eager.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[name], weight, atol=1e-4, rtol=1e-3)
    losses = []
    for run in ("eager", "compiled"):
        with open(tmp_path / run / "metrics.csv", newline="") as table:
            losses += [float(loss) for row in csv.DictReader(table) if (loss := row["train/loss"])]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_built_loss_is_a_compiled_one() -> None:
    settings = resolve_config(compose_config([*SETTINGS, "run_dir=x", "model.compile=true"]))
    assert settings["model"]["compile"] is True
    model = build_model(settings, build_data(settings))
    assert model.losses is not type(model).losses
    assert model.losses.__wrapped__.__func__ is type(model).losses
    assert "compile" not in model.hparams


@pytest.mark.parametrize(("name", "data"), [("rbm", "mnist_5k"), ("rnn_rbm", "bach_chorales")])
def test_a_loss_with_gibbs_chains_is_refused(cli, name: str, data: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, out, err = cli(
        train.main, f"model={name}", f"data={data}", "model.compile=true",
        f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert (code, out) == (1, "")
    assert err == (
        f"musegen: model.compile=true: the loss of model={name} has compiled Gibbs chains already, "
        "which torch.compile cannot read; leave it out\n"
    )
    assert not folder.exists()


def test_a_missing_compiler_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = resolve_config(compose_config([*SETTINGS, "run_dir=x", "model.compile=true"]))
    with pytest.raises(UserError, match=r"no C\+\+ compiler \(/nowhere/g\+\+\); install one"):
        build_model(settings, build_data(settings))
