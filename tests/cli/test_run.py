"""Small runs: train, then use everything that the run folder contains."""

from __future__ import annotations

import csv
import html
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import mido
import pytest
import torch
from conftest import ROOT, log_handlers_restored, tune
from omegaconf import OmegaConf

from musegen.cli import count, dissect, evaluate, generate, report
from musegen.cli import train as train_module
from musegen.codecs.midi import write_notes
from musegen.metrics.music import ROLL_MEASURES
from musegen.metrics.music_comparison import ALL_MEASURES
from tests.processes import HANG

TINY = ["model.hidden=16", "model.layers=1", "model.head_width=8", "data.window=16",
        "data.batch_size=4", "trainer.max_epochs=2", "sample.n=2", "sample.length=30"]  # fmt: skip


def metrics(out: str) -> dict[str, str]:
    """Printed test metrics, as printed."""
    return dict(re.findall(r"^ +(\w+) +(-?[\d.]+)$", out, re.M))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tests only read. `stdout.txt` has what the command printed."""
    root = tmp_path_factory.mktemp("trained")
    (root / "midi").mkdir()
    for i in range(6):
        write_notes(tune(i), root / "midi" / f"tune{i}.mid")
    folder, printed = root / "run", io.StringIO()
    arguments = ["data=midi_folder", f"data.root={root}/midi", *TINY, f"hydra.run.dir={folder}"]
    with (
        pytest.MonkeyPatch.context() as patched, log_handlers_restored(), redirect_stdout(printed)
    ):  # fmt: skip
        patched.setattr(sys, "argv", ["musegen", *arguments])
        patched.setenv("MUSEGEN_CACHE", str(root / "cache"))
        train_module.main()
    (folder / "stdout.txt").write_text(printed.getvalue())
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, for tests that change it."""
    return shutil.copytree(trained, tmp_path / "run")


def test_the_run_folder_is_complete(trained: Path) -> None:
    config = OmegaConf.to_container(OmegaConf.load(trained / "config.yaml"), resolve=False)
    assert config["model"]["hidden"] == 16
    assert "${" not in str(config)
    for name in ("best.ckpt", "last.ckpt"):
        assert torch.load(trained / "checkpoints" / name, weights_only=True)["hyper_parameters"]
    with open(trained / "metrics.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    for name in ("train/loss", "train/note", "train/velocity", "train/time", "val/nll"):
        assert any(row.get(name) for row in rows), name
    assert sorted(p.name for p in (trained / "samples").iterdir()) == [
        f"0{i}.{ending}" for i in (0, 1) for ending in ("mid", "png", "wav")
    ]
    assert not list(trained.rglob("*.part"))


def test_the_banner_names_model_data_device_and_folder(trained: Path) -> None:
    lines = (trained / "stdout.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines[:7]] == [
        "model", "data", "device", "precision", "folder", "resume", "epoch"
    ]  # fmt: skip
    assert lines[0].split(maxsplit=1)[1].startswith("lstm_midi, ")
    assert lines[1].split(maxsplit=1)[1].startswith("MidiFolder: train 4 pieces / ")
    assert lines[4].split() == ["folder", str(trained)]
    assert lines[5].endswith(f"musegen train resume={trained}")


def test_a_run_ends_with_its_report(trained: Path, cli) -> None:
    last = (trained / "stdout.txt").read_text().splitlines()[-1]
    assert last == f"report {(trained / 'report.html').as_uri()}"
    facts = json.loads((trained / "run.json").read_text())
    assert facts["weights"] > 1000
    assert facts["epochs"] == 2
    assert facts["seconds"] > 0
    assert facts["command"].startswith("musegen train data=midi_folder data.root=")
    assert facts["data"].startswith("train 4 pieces")
    music = json.loads((trained / "music.json").read_text())
    assert set(music["measures"]) == set(ALL_MEASURES) - set(ROLL_MEASURES)
    assert music["measures"]["polyphony"]["training"] == pytest.approx(1, abs=0.01)
    assert music["excerpts"]["held_out"] > 0
    (line,) = [
        x for x in (trained / "stdout.txt").read_text().splitlines() if x.startswith("music ")
    ]
    assert line.startswith(f"music {music['headline']:.2f} of the overlap of real pieces")
    before = (trained / "report.html").read_text()
    assert "Play samples/01" in before
    assert facts["command"] in html.unescape(before)
    code, out, err = cli(report.main, f"run={trained}")
    assert code == 0, err
    assert out.strip() == str(trained / "report.html")
    assert (trained / "report.html").read_text() == before


def test_evaluation_gives_the_same_metrics(trained: Path, cli) -> None:
    expected = metrics((trained / "stdout.txt").read_text())
    assert set(expected) >= {"nll", "note", "velocity", "time", "note_accuracy", "unigram_nll",
                            "ngram_nll", "ngram_time"}  # fmt: skip
    before = (trained / "test.json").read_text()
    for target in (trained, trained / "checkpoints" / "best.ckpt"):
        code, out, err = cli(evaluate.main, f"run={target}")
        assert code == 0, err
        assert metrics(out) == expected
    assert (trained / "test.json").read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_stdout_is_no_error(trained: Path, unbuffered: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "musegen.cli.evaluate", f"run={trained}"], cwd=ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    process.stdout.close()
    assert process.communicate(timeout=HANG)[1] == ""
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["optimizer.name=sgd"], "the optimizer cannot change when a run is resumed"),
        (["trainer.max_epochs=1"], "2 epochs have been trained, more than trainer.max_epochs=1"),
        (["trainer.max_epochs=3", "trainer.limit_val_batches=0.01"], "You requested to check"),
    ],
)
def test_a_refused_change_leaves_the_run_as_it_was(
    run: Path, cli, typed: list[str], message: str
) -> None:
    before = (run / "config.yaml").read_text()
    code, _, err = cli(train_module.main, f"resume={run}", *typed)
    assert code == 1
    assert message in err
    assert (run / "config.yaml").read_text() == before
    assert cli(train_module.main, f"resume={run}")[0] == 0


def test_a_refused_run_leaves_no_folder(cli, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, *_ = cli(
        train_module.main, "data=midi_folder", "data.root=/no", f"hydra.run.dir={folder}"
    )
    assert code == 1
    assert not folder.exists()


@pytest.mark.parametrize("main", [count.main, dissect.main, evaluate.main, generate.main])
def test_a_missing_run_is_answered_with_the_usage(cli, main) -> None:
    command = main.__module__.rpartition(".")[2]
    code, _, err = cli(main)
    assert code == 1
    assert f"musegen {command} run=<run folder or checkpoint>" in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("other", [[], ["data=midi_folder"]])
def test_evaluation_refuses_settings_of_the_model(trained: Path, cli, other: list[str]) -> None:
    code, _, err = cli(evaluate.main, f"run={trained}", *other, "model.hidden=3")
    assert code == 1
    assert err.startswith("musegen: model.hidden=3: a trained run keeps this setting; data.*")


def test_evaluation_on_other_data_uses_the_checkpoints_codec(run: Path, cli, midi_folder) -> None:
    for i in range(6):
        write_notes(tune(10 + i), midi_folder.parent / f"{i}.mid")
    other = ["data=midi_folder", f"data.root={midi_folder.parent}"]
    code, out, err = cli(evaluate.main, f"run={run}", *other)
    assert code == 0, err
    written = json.loads((run / "evaluation.json").read_text())
    assert f"{written['nll']:.4g}" == metrics(out)["nll"]
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
    code, _, err = cli(generate.main, f"run={alone}", "temperture=2")
    assert code == 1
    assert "did you mean temperature" in err
    assert len(err.strip().splitlines()) == 1


def test_the_score_is_the_best_one_not_the_last(trained: Path, run: Path) -> None:
    text = (run / "config.yaml").read_text().replace(str(trained), str(run))
    settings = OmegaConf.to_container(OmegaConf.create(text))
    settings["trainer"]["max_epochs"] = 3
    settings["mode"] = "max"  # the score falls in each epoch, so the first one is the best
    settings["callbacks"]["checkpoint"]["mode"] = "max"
    settings["sample"] = None
    (run / "config.yaml").unlink()  # a folder that holds a run is refused
    shutil.rmtree(run / "checkpoints")
    score = train_module.run(settings)
    with open(run / "metrics.csv", newline="") as table:
        history = [float(r["val/nll"]) for r in csv.DictReader(table) if r.get("val/nll")]
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
def test_two_updates_of_every_variant(cli, midi_folder: Path, extra: list[str]) -> None:
    code, out, err = cli(
        train_module.main, "data=midi_folder", f"data.root={midi_folder}", *extra,
        "trainer.limit_train_batches=2", "trainer.max_epochs=1", "sample.n=1", "sample.length=10",
        "data.batch_size=16",
    )  # fmt: skip
    assert code == 0, err
    assert float(metrics(out)["nll"]) > 0


def test_each_job_of_a_sweep_has_its_own_folder(cli, midi_folder: Path, tmp_path: Path) -> None:
    code, _, err = cli(
        train_module.main, "-m", "data=midi_folder", f"data.root={midi_folder}", *TINY[1:],
        "model.hidden=4,8", f"hydra.sweep.dir={tmp_path}/sweep",
    )  # fmt: skip
    assert code == 0, err
    hidden = [OmegaConf.load(tmp_path / "sweep" / job / "config.yaml").model.hidden for job in "01"]
    assert hidden == [4, 8]


@pytest.fixture
def names_folder(tmp_path: Path) -> Path:
    """Two countries with different letters, 40 names each."""
    folder = tmp_path / "names"
    folder.mkdir()
    for label, letters in (("Japan", "aiko"), ("Poland", "wszy")):
        names = {"".join(p) for p in itertools.product(letters, repeat=3)}
        (folder / f"{label}.txt").write_text("\n".join(sorted(names)[:40]))
    return folder


def test_names_from_training_to_dissection(cli, names_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code, _, err = cli(
        train_module.main, "experiment=names18", f"data.root={names_folder}", "model.hidden=16",
        "model.embedding=8", "model.dropout=0", "optimizer.lr=0.02", "data.batch_size=8",
        "trainer.max_epochs=12", "sample.n=3", f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert code == 0, err
    trained = json.loads((folder / "test.json").read_text())
    assert trained["bpc"] < 2.2  # three letters out of four and an end: at least 1.5
    assert set(trained) >= {"perplexity", "ngram_bpc", "ngram6_bpc", "bpc/Japan",
                            "ngram_bpc/Poland", "novel", "distinct", "recognised"}  # fmt: skip
    samples = (folder / "samples" / "samples.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in samples] == ["Japan"] * 3 + ["Poland"] * 3

    code, _, err = cli(evaluate.main, f"run={folder}")
    assert code == 0, err
    assert json.loads((folder / "test.json").read_text()) == trained

    code, _, err = cli(generate.main, f"run={folder}", "label=poland", "n=20", "seed=1")
    assert code == 0, err
    made = (folder / "generated" / "samples.txt").read_text().splitlines()
    assert len(made) == 20
    assert {line.split("\t")[0] for line in made} == {"Poland"}
    letters = "".join(line.split("\t")[1] for line in made)
    assert sum(c in "wszy" for c in letters) > 0.8 * len(letters)

    code, _, err = cli(dissect.main, f"run={folder}", "string=wsz", "label=Poland")
    assert code == 0, err
    numbers = json.loads((folder / "dissection" / "dissection.json").read_text())
    assert numbers["read"] == ["start", "w", "s", "z"]
    for main, string in ((generate.main, []), (dissect.main, ["string=a"])):
        code, _, err = cli(main, f"run={folder}", *string, "label=Jpan")
        assert code == 1
        assert err.strip() == "musegen: label=Jpan: no such label; did you mean Japan?"


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "empty"), (b"x", "1 character cannot be split"), (b"ab\xff", "not UTF-8 (byte 2 is")],
)
def test_a_bad_text_gives_one_line(cli, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "my.txt"
    path.write_bytes(content)
    code, out, err = cli(train_module.main, "model=char_rnn", "data=text", f"data.path={path}")
    assert code == 1
    assert len(err.splitlines()) == 1
    assert f"{path}: {message}" in err
    assert "Traceback" not in out


def test_a_label_without_names_gives_one_line(cli, names_folder: Path) -> None:
    (names_folder / "China.txt").write_text("\u738b\n")
    folded = ["model=char_rnn", "data=names", f"data.root={names_folder}", "data.ascii=true"]
    code, _, err = cli(train_module.main, *folded)
    assert code == 1
    assert err == "musegen: label China: no names to train on; set data.ascii=false\n"


@pytest.mark.parametrize("experiment", ["anbn_rnn2", "anbn_lstm1"])
def test_counting_from_training_to_the_table(cli, tmp_path: Path, experiment: str) -> None:
    folder = tmp_path / "run"
    code, _, err = cli(
        train_module.main, f"experiment={experiment}", "data.train_size=40", "data.batch_size=40",
        "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=1",
        "data.val_n=[1,9]", "data.count_to=5", f"hydra.run.dir={folder}",
        "callbacks.starts.tries=2", "callbacks.starts.steps=3",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads((folder / "test.json").read_text())["capacity"]
    code, _, err = cli(count.main, f"run={folder}", "up_to=0")
    assert (code, err) == (1, "musegen: count.up_to=0: should be greater than or equal to 1\n")
    code, out, err = cli(count.main, f"run={folder}", "show=3", "up_to=5")
    assert code == 0, err
    lines = out.splitlines()
    assert [line.split("  ")[1] for line in lines[1:4]] == ["012", "00112", "0001112"]
    assert lines[4].startswith(f"capacity {found:.0f}")


@pytest.mark.parametrize("typed", ["trainer.max_epochs=0", "trainer.limit_train_batches=0"])
def test_an_untrained_model_is_tested_and_generates(
    cli, midi_folder: Path, tmp_path: Path, typed: str
) -> None:
    folder = tmp_path / "run"
    code, out, err = cli(
        train_module.main, "data=midi_folder", f"data.root={midi_folder}", *TINY, typed,
        f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert code == 0, err
    assert float(metrics(out)["nll"]) > 0
    assert (folder / "report.html").exists()


def test_an_error_that_lightning_finds_late_gives_one_line(cli, midi_folder: Path) -> None:
    code, _, err = cli(
        train_module.main, "data=midi_folder", f"data.root={midi_folder}", *TINY,
        "trainer.limit_val_batches=0.1",
    )  # fmt: skip
    assert code == 1
    assert err.startswith("musegen: trainer: You requested to check 0.1 of the `val_dataloader`")
    assert err.count("\n") == 1
