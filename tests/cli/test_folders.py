"""What a command does with a folder in which there are already files."""

from __future__ import annotations

from pathlib import Path

import pytest

from musegen.cli import generate, train
from musegen.specs import Tokens

TINY = ["model=char_rnn", "data=anbn", "data.train_size=100", "data.count_to=5", "model.hidden=4",
        "trainer.max_epochs=1", "sample=null", "callbacks.samples=null"]  # fmt: skip


@pytest.fixture
def run(cli, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    code, _, err = cli(train.main, *TINY, f"hydra.run.dir={folder}")
    assert code == 0, err
    return folder


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_that_holds_a_run_is_refused(cli, run: Path) -> None:
    before = files(run)
    code, out, err = cli(train.main, *TINY, f"hydra.run.dir={run}")
    assert (code, out) == (1, "")
    assert err == (
        f"musegen: {run}: this folder holds a run; add resume={run} to resume it, or choose "
        "another folder for the new run\n"
    )
    assert files(run) == before
    (run / "config.yaml").unlink()
    assert "holds a run" in cli(train.main, *TINY, f"hydra.run.dir={run}")[2]
    assert files(run).keys() == before.keys() - {run / "config.yaml"}


def test_several_processes_are_refused_before_they_start(cli, run: Path, monkeypatch) -> None:
    monkeypatch.setattr(train.launch, "launch", None)  # must not be called
    two = ["trainer.accelerator=cpu", "trainer.devices=2"]
    code, _, err = cli(train.main, *TINY, *two, f"hydra.run.dir={run}")
    assert code == 1
    assert f"add resume={run}" in err


def test_job_folders_that_hold_runs_are_refused(cli, tmp_path: Path) -> None:
    sweep = [*TINY, "seed=1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    assert cli(train.main, "-m", *sweep)[0] == 0
    before = files(tmp_path / "sweep")
    code, _, err = cli(train.main, "-m", *sweep)
    assert code == 1
    assert "sweep/0: this folder holds a run; add resume=" in err
    changed = {p for p, content in files(tmp_path / "sweep").items() if before.get(p) != content}
    assert {p.name for p in changed} <= {"multirun.yaml"}


@pytest.mark.parametrize("out", [[], ["out=mine"]])
def test_new_samples_replace_the_earlier_ones(cli, tmp_path: Path, run: Path, out) -> None:
    folder = tmp_path / "mine" if out else run / "generated"
    folder.mkdir(exist_ok=True)
    for name in ("00.txt", "01.txt", "03.txt", "notes.txt"):
        (folder / name).write_text("earlier")
    code, _, err = cli(generate.main, f"run={run}", "n=2", *out)
    assert code == 0, err
    assert sorted(p.name for p in folder.iterdir()) == ["03.txt", "notes.txt", "samples.txt"]


def test_fewer_samples_replace_more(tmp_path: Path) -> None:
    generate.replace_samples(Tokens(3), ["a\nb"] * 3, tmp_path)
    paths = generate.replace_samples(Tokens(3), ["c\nd"], tmp_path)
    assert list(tmp_path.iterdir()) == paths == [tmp_path / "00.txt"]
