"""`musegen critic`: a critic is trained, saved with the model, and used in generation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from musegen.cli import critic, export, generate
from musegen.cli import train as train_module
from musegen.codecs.midi import read_notes
from musegen.models import load_model
from musegen.sharing.locate import load
from musegen.studio.settings import described

SHORT = ["trainer.max_epochs=1", "sample=null", "model.hidden=8", "trainer.gpus=0"]


@pytest.fixture
def run(cli, tmp_path: Path, midi_folder: Path) -> Path:
    folder = tmp_path / "run"
    code, _, err = cli(
        train_module.main, "model=rnn_nade", "data=piano_roll_folder", f"data.root={midi_folder}",
        *SHORT, f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert code == 0, err
    return folder


def test_a_critic_is_part_of_the_model_from_then_on(
    cli, run: Path, tmp_path: Path, midi_folder: Path
) -> None:
    path = run / "checkpoints" / "best.ckpt"
    before = load_model(path).state_dict()
    assert "critic" not in {setting["name"] for setting in described(load_model(path))}
    code, out, err = cli(critic.main, f"run={run}", "pieces=12", "length=40", "epochs=2")
    assert code == 0, err
    assert "the critic tells validation pieces from generated ones with an AUC of " in out
    model = load_model(path)
    after = model.state_dict()
    assert {k for k in after if k not in before} == {
        f"critic.{k}" for k in model.critic.state_dict()
    }
    assert all(torch.equal(after[k], v) for k, v in before.items())
    assert "critic" in {setting["name"] for setting in described(model)}

    # Every path by which a model travels.
    code, _, err = cli(export.main, f"run={run}", f"out={tmp_path / 'shared'}")
    assert code == 0, err
    shared = load(tmp_path / "shared")
    weights = f"{sum(p.numel() for p in model.critic.parameters()):,} of them those of its critic"
    assert weights in (tmp_path / "shared" / "README.md").read_text("utf-8")
    settings = {"n": 2, "length": 60, "particles": 3, "seed": 1}
    chosen, unchosen = model.generate(**settings), model.generate(**settings, critic=False)
    assert all(map(np.array_equal, shared.generate(**settings), chosen))
    assert not all(map(np.array_equal, unchosen, chosen))
    one = {"n": 2, "length": 60, "seed": 1}  # a critic has no choice then
    assert all(map(np.array_equal, model.generate(**one), model.generate(**one, critic=False)))
    code, _, err = cli(generate.main, f"run={run}", "n=2", "length=60", "particles=3", "seed=1",
                       "formats=[mid]", f"out={tmp_path / 'made'}")  # fmt: skip
    assert code == 0, err
    made = [read_notes(p) for p in sorted((tmp_path / "made").glob("*.mid"))]
    assert [len(m) for m in made] == [len(c) for c in chosen]

    # A second critic replaces the first one; a training that starts here has none.
    code, _, err = cli(critic.main, f"run={run}", "pieces=6", "length=40", "epochs=1", "seed=5")
    assert code == 0, err
    assert load_model(path).state_dict().keys() == after.keys()
    code, _, err = cli(
        train_module.main, "model=rnn_nade", "data=piano_roll_folder", f"data.root={midi_folder}",
        *SHORT, f"init_from={run}", f"hydra.run.dir={tmp_path / 'tuned'}",
    )  # fmt: skip
    assert code == 0, err
    assert load_model(tmp_path / "tuned" / "checkpoints" / "best.ckpt").critic is None
    assert load_model(run / "checkpoints" / "last.ckpt").critic is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "musegen: which run? musegen critic run="),
        (("run=nowhere",), "musegen: run=nowhere: no checkpoints/best.ckpt, which the critic is"),
        (("run=run", "pieces=1"), "pieces=1: some are trained on and others not, so at least 2"),
        (("run=run", "pieces=0"), "pieces=0"),
        (("run=run", "piece=4"), "piece: no such setting; did you mean pieces?"),
    ],
)
def test_a_wrong_call_gets_one_line(cli, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = cli(critic.main, *arguments)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert message in err


def test_a_model_of_other_data_has_no_critic(cli, tmp_path: Path, midi_folder: Path) -> None:
    folder = tmp_path / "run"
    code, _, err = cli(
        train_module.main, "model=lstm_midi", "data=midi_folder", f"data.root={midi_folder}",
        *SHORT, "data.window=16", f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert code == 0, err
    code, _, err = cli(critic.main, f"run={folder}")
    assert code == 1
    assert (
        err.strip()
        == f"musegen: run={folder}: only models of piano-rolls have a critic, not lstm_midi"
    )
