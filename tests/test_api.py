"""The Python API: training, evaluation and loading without Hydra and without a command line."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

import musegen
from datamodules.grammar_strings import GrammarStrings
from datamodules.roll_files import RollFolder
from musegen.models.char_rnn import CharRNN

TINY: dict[str, object] = {
    "data.train_size": 8, "data.val_n": [1, 2], "data.test_n": [1, 2], "data.count_to": 2,
    "data.batch_size": 4, "callbacks.progress": None, "sample.length": 8,
}  # fmt: skip


class TwoUnits(CharRNN):
    """A model of the user's own."""

    def losses(self, batch):
        return {"nll": super().losses(batch)["nll"] * 2}


def test_train_by_names(tmp_path: Path) -> None:
    run = musegen.train(
        "char_rnn", "anbn", tmp_path / "run", {**TINY, "model.hidden": 2, "seed": 3},
        max_epochs=2, gpus=0,
    )  # fmt: skip
    assert run.folder == tmp_path / "run"
    assert run.metrics["nll"] > 0
    assert run.report.exists()
    assert "<td>nll</td>" in run._repr_html_()
    assert run.model.hparams["hidden"] == 2
    assert len(run.model.generate(n=3, length=5)) == 3
    assert "model.hidden=2" in (run.folder / "report.html").read_text()
    # Nothing of Hydra is left behind.
    assert not GlobalHydra.instance().is_initialized()
    assert not HydraConfig.initialized()


def test_train_with_objects_of_ones_own(tmp_path: Path) -> None:
    data = GrammarStrings(train_size=8, val_n=(1, 2), test_n=(1, 2), count_to=2, batch_size=4)
    model = TwoUnits(data.spec, data.codec, hidden=2)
    settings = {"callbacks.progress": None, "sample.length": 8}
    run = musegen.train(model, data, tmp_path / "run", settings, max_epochs=1, gpus=0)
    assert type(run.model) is TwoUnits
    assert run.metrics["nll"] > 0
    assert "TwoUnits on GrammarStrings" in run.report.read_text()


def test_errors_are_exceptions_with_the_texts_of_the_commands(tmp_path: Path) -> None:
    for arguments, message in (
        (("char_rnn", "jsb"), "model=char_rnn reads Tokens or LabelledTokens, but this data"),
        (("char_rn", "anbn"), "model=char_rn: no such model config; did you mean char_rnn?"),
        (("char_rnn", "anbn", None, {"model.hiden": 2}), "model.hiden: no such setting; did"),
        (("char_rnn", object()), "data=object: has no spec"),
    ):
        with pytest.raises(musegen.UserError, match=message) as e:
            musegen.train(*arguments)
        assert "\n" not in str(e.value)
    with pytest.raises(musegen.UserError, match="run=nothing: no such run folder"):
        musegen.load("nothing")
    assert not GlobalHydra.instance().is_initialized()


def test_the_rolls_protocol_with_fair_coins(midi_folder: Path) -> None:
    def log_prob(x_TD):
        return np.full(len(x_TD), -x_TD.shape[1] * math.log(2))

    def silence(x_TD, n, generator):
        return np.zeros((n, *x_TD.shape))

    data = RollFolder(midi_folder, dt=0.25)
    found = musegen.evaluate_rolls(log_prob, silence, data, samples=2)
    rolls = data.rolls["test"]
    assert found["log_likelihood"] == pytest.approx(-88 * math.log(2))
    assert found["frames"] == sum(map(len, rolls))
    # A silent sample is right only in silent frames.
    silent = np.concatenate([roll.sum(1) == 0 for roll in rolls]).mean()
    assert found["accuracy"] == pytest.approx(silent)
    assert "accuracy" not in musegen.evaluate_rolls(log_prob, None, data)


def test_a_perfect_model_of_rolls(midi_folder: Path) -> None:
    data = RollFolder(midi_folder, dt=0.25)

    def log_prob(x_TD):
        return torch.zeros(len(x_TD))

    def sample(x_TD, n, generator):
        return torch.from_numpy(x_TD).expand(n, -1, -1)

    found = musegen.evaluate_rolls(log_prob, sample, data, "val", samples=3)
    assert (found["log_likelihood"], found["accuracy"]) == (0.0, 1.0)


def test_wrong_results_of_a_model_are_refused(midi_folder: Path) -> None:
    data = RollFolder(midi_folder, dt=0.25)
    with pytest.raises(musegen.UserError, match=r"log_prob of piece 0: has shape \(1,\)"):
        musegen.evaluate_rolls(lambda x: [0.0], None, data)
    with pytest.raises(musegen.UserError, match="values that are not finite"):
        musegen.evaluate_rolls(lambda x: np.full(len(x), -np.inf), None, data)
    with pytest.raises(musegen.UserError, match="data=jbs: no such data config; did you mean jsb"):
        musegen.evaluate_rolls(lambda x: x, data="jbs")
    with pytest.raises(musegen.UserError, match="data=anbn: has no piano-rolls"):
        musegen.evaluate_rolls(lambda x: x, data="anbn")
