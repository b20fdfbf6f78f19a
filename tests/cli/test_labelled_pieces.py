"""Runs on labelled pieces: metrics and samples of each label, scores, fine-tuning."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import quartet_folders
from omegaconf import OmegaConf

from musegen import load
from musegen.cli import evaluate, generate, train

TINY = ["model.hidden=8", "model.layers=1", "model.head_width=4", "model.active_note_dim=4",
        "data.window=16", "trainer.max_epochs=1", "trainer.gpus=0"]  # fmt: skip


@pytest.fixture
def run(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    quartet_folders(tmp_path / "scores", monkeypatch)
    folder = tmp_path / "run"
    code, _, err = cli(
        train.main, "data=quartets", *TINY, "monitor=val/nll/mozart", "sample.n=1",
        "sample.length=20", "sample.formats=[musicxml]", f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert code == 0, err
    return folder


def test_a_labelled_run_and_a_run_that_starts_with_its_weights(
    cli, run: Path, tmp_path: Path
) -> None:
    composers = ("beethoven", "haydn", "mozart")
    names = [f"0{i}_{c}.{e}" for i, c in enumerate(composers) for e in ("mid", "musicxml")]
    assert sorted(p.name for p in (run / "samples").iterdir()) == names
    test = json.loads((run / "test.json").read_text())
    for name in composers:
        parts = [test[f"{field}/{name}"] for field in ("note", "velocity", "time")]
        assert test[f"nll/{name}"] == pytest.approx(sum(parts))
        assert test[f"unigram_nll/{name}"] > 0
    page = (run / "report.html").read_text()
    assert "validation, mozart" in page  # a curve of each label

    for typed, files in (
        ("Mozart", ["00_mozart.mid", "01_mozart.mid"]),
        ("haydn", ["00_haydn.mid"]),
    ):
        arguments = [f"run={run}", f"label={typed}", f"n={len(files)}", "length=5", "formats=[mid]"]
        code, out, _ = cli(generate.main, *arguments)
        assert code == 0
        assert sorted(p.name for p in (run / "generated").iterdir()) == files
    for wrong, message in (
        (["label=bach"], "label=bach: "),
        (
            ["formats=[mp3]"],
            "generate.formats=['mp3']: should be 'mid', 'wav', 'png' or 'musicxml'",
        ),
    ):
        code, _, err = cli(generate.main, f"run={run}", *wrong)
        assert (code, err.count("\n")) == (1, 1)
        assert message in err
    # Evaluation on one composer: the other labels have no metrics.
    code, _, err = cli(evaluate.main, f"run={run}", "data.composers=[mozart]")
    assert code == 0, err
    of_mozart = json.loads((run / "evaluation.json").read_text())
    assert of_mozart["nll"] == pytest.approx(test["nll/mozart"])
    assert "nll/haydn" not in of_mozart

    shutil.copytree(run, tmp_path / "moved")
    tuned = tmp_path / "tuned"
    code, out, err = cli(
        train.main, "data=mozart", *TINY, "sample=null", "init_from=moved", "optimizer.lr=0.0001",
        f"hydra.run.dir={tuned}",
    )  # fmt: skip
    assert code == 0, err
    assert f"start      weights of {tmp_path / 'moved'}" in out
    assert "were in the training data" not in out
    config = OmegaConf.load(tuned / "config.yaml")
    assert config.init_from == str(tmp_path / "moved")
    assert str(tmp_path / "moved") in (tuned / "report.html").read_text()
    difference = load(tuned).heads.from_state.weight - load(run).heads.from_state.weight
    assert 0 < float(difference.detach().abs().max()) < 0.01
    # The resumed run does not need the other run any more, and a new one does.
    shutil.rmtree(tmp_path / "moved")
    code, _, err = cli(train.main, f"resume={tuned}", "trainer.max_epochs=2")
    assert code == 0, err
    code, _, err = cli(train.main, "data=mozart", *TINY, "init_from=moved")
    assert (code, err.count("\n")) == (1, 1)
    assert f"init_from={tmp_path / 'moved'}: no such run folder or checkpoint" in err


def test_pieces_that_the_first_run_was_trained_on_are_named(cli, run: Path, tmp_path: Path) -> None:
    code, out, err = cli(
        train.main, "data=quartets", "data.composers=[mozart]", "data.split_seed=5", *TINY,
        "sample=null", f"init_from={run / 'checkpoints' / 'best.ckpt'}",
        f"hydra.run.dir={tmp_path / 'tuned'}",
    )  # fmt: skip
    assert code == 0, err
    assert "pieces of validation or test (mozart/" in out
    assert f"were in the training data of {run / 'checkpoints' / 'best.ckpt'}" in out


def test_formats_of_a_model_without_pieces_are_refused(cli) -> None:
    code, _, err = cli(train.main, "model=rbm", "data=mnist_5k", "sample.formats=[wav]")
    assert (code, err.count("\n")) == (1, 1)
    assert "sample.formats=['wav']: only pieces of music have a choice of formats" in err
