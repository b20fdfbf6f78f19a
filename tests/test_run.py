"""The main job, small: train, then everything that a run folder promises."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import mido
import pytest
import torch
from omegaconf import OmegaConf

from musegen import evaluate, generate
from musegen import train as train_module

TINY = ["model.hidden=16", "model.layers=1", "model.head_width=8", "data.window=16",
        "data.batch_size=4", "trainer.max_epochs=2", "sample.n=2", "sample.length=30"]  # fmt: skip


def figures(out: str) -> dict[str, str]:
    """Printed test figures, as printed."""
    return dict(re.findall(r"^  (\w+) +(-?[\d.]+)$", out, re.M))


@pytest.fixture
def run(cli, midi_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    code, out, err = cli(
        train_module.main, "data=midi_folder", f"data.root={midi_folder}", *TINY,
        f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert code == 0, err
    (folder / "stdout.txt").write_text(out)
    return folder


def test_run_folder(run: Path) -> None:
    config = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"), resolve=False)
    assert config["model"]["hidden"] == 16
    assert "${" not in str(config)
    for name in ("best.ckpt", "last.ckpt"):
        assert torch.load(run / "checkpoints" / name, weights_only=True)["hyper_parameters"]
    with open(run / "metrics.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    for name in ("train/loss", "train/note", "train/velocity", "train/time", "val/nats"):
        assert any(row.get(name) for row in rows), name
    assert sorted(p.name for p in (run / "samples").iterdir()) == [
        f"0{i}.{ending}" for i in (0, 1) for ending in ("mid", "png", "wav")
    ]
    assert not list(run.rglob("*.part"))


def test_evaluation_agrees_to_the_last_digit(run: Path, cli) -> None:
    trained = figures((run / "stdout.txt").read_text())
    assert set(trained) >= {"nats", "note", "velocity", "time", "note_accuracy"}
    before = (run / "test.json").read_text()
    for target in (run, run / "checkpoints" / "best.ckpt"):
        code, out, err = cli(evaluate.main, f"run={target}")
        assert code == 0, err
        assert figures(out) == trained
    assert (run / "test.json").read_text() == before


def test_evaluation_on_other_data_takes_the_checkpoints_codec(run: Path, cli, midi_folder) -> None:
    other = ["data=midi_folder", f"data.root={midi_folder}", "data.split_seed=7"]
    code, out, err = cli(evaluate.main, f"run={run}", *other)
    assert code == 0, err
    written = json.loads((run / "evaluation.json").read_text())
    assert f"{written['nats']:.6f}" == figures(out)["nats"]
    assert written != json.loads((run / "test.json").read_text())
    code, _, err = cli(evaluate.main, f"run={run}", "data.rot=x")
    assert code == 1
    assert "did you mean root?" in err


def test_generation_needs_only_the_checkpoint(run: Path, cli, tmp_path: Path, midi_folder) -> None:
    alone = tmp_path / "elsewhere" / "my.ckpt"
    alone.parent.mkdir()
    (run / "checkpoints" / "best.ckpt").rename(alone)
    prime = sorted(midi_folder.glob("*.mid"))[0]
    code, out, err = cli(
        generate.main, f"run={alone}", "n=3", "length=40", "temperature=0.9", "top_k=20",
        "top_p=0.95", f"prime={prime}", "include_prime=true", "seed=5", f"out={tmp_path}/out",
    )  # fmt: skip
    assert code == 0, err
    written = sorted((tmp_path / "out").glob("*.mid"))
    assert len(written) == 3
    for path in written:
        assert mido.MidiFile(path).length > 5
        assert str(path) in out
    code, _, err = cli(generate.main, f"run={alone}", "tempature=2")
    assert code == 1
    assert "did you mean temperature?" in err
    assert len(err.strip().splitlines()) == 1


def test_the_score_is_the_best_and_not_the_last(run: Path) -> None:
    settings = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"))
    settings["trainer"]["max_epochs"] = 3
    settings["mode"] = "max"  # a score that only falls: the first epoch's is the best
    settings["callbacks"]["checkpoint"]["mode"] = "max"
    settings["sample"] = None
    score = train_module.run(settings)
    with open(run / "metrics.csv", newline="") as table:
        history = [float(r["val/nats"]) for r in csv.DictReader(table) if r.get("val/nats")]
    assert score == pytest.approx(max(history))
    assert score > history[-1]


@pytest.mark.parametrize(
    "extra",
    [
        ["experiment=lstm_midi_course", "model.hidden=8"],
        ["data.carry=true"],
        ["model.heads=independent", "model.embedding=null"],
        ["data.num_workers=1"],
        ["optimizer=sgd", "optimizer.schedule=plateau"],
        ["callbacks=early_stopping", "optimizer=adam", "optimizer.warmup_steps=1"],
    ],
    ids=lambda e: e[0],
)
def test_two_steps_of_every_way(cli, midi_folder: Path, extra: list[str]) -> None:
    code, out, err = cli(
        train_module.main, "data=midi_folder", f"data.root={midi_folder}", *extra,
        "trainer.limit_train_batches=2", "trainer.max_epochs=1", "sample.n=1", "sample.length=10",
        "data.batch_size=16",
    )  # fmt: skip
    assert code == 0, err
    assert float(figures(out)["nats"]) > 0


def test_sweeps_run_each_job_in_a_folder_of_its_own(cli, midi_folder: Path, tmp_path: Path) -> None:
    code, _, err = cli(
        train_module.main, "-m", "data=midi_folder", f"data.root={midi_folder}", *TINY[1:],
        "model.hidden=4,8", f"hydra.sweep.dir={tmp_path}/sweep",
    )  # fmt: skip
    assert code == 0, err
    hidden = [OmegaConf.load(tmp_path / "sweep" / job / "config.yaml").model.hidden for job in "01"]
    assert hidden == [4, 8]
