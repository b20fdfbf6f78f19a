"""The counts of next frames: two frames by hand, and samples beside the true frames."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import ROOT

from datamodules.roll_files import RollFolder
from musegen.cli import train as train_module

LOW, D = 12, 24


@pytest.fixture
def next_frame(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("next_frame")


def frame(*notes: int) -> np.ndarray:
    return np.isin(np.arange(D), notes)


def test_counts_by_hand(next_frame: ModuleType) -> None:
    """A chord of three moves below a melody that steps from 19 to 21; then nothing changes."""
    before_ND = np.stack([frame(0, 4, 7, 19), frame(5, 9, 11, 21), frame()])
    x_ND = np.stack([frame(5, 9, 11, 21), frame(5, 9, 11, 21), frame()])
    found = next_frame.counts(before_ND, x_ND, np.array([6, 1, 1]), LOW)
    assert found == {
        "notes at once": {4: 1},
        "distances of pairs": {4: 1, 6: 1, 2: 1, 16: 1, 12: 1, 10: 1},
        "steps of the top note": {2: 1},
        "top note over a new chord": {4: 1},
        "age of low notes at a change": {6: 1},
    }


def test_ages_by_hand(next_frame: ModuleType) -> None:
    before_TD = np.stack([frame(), frame(1), frame(1), frame(1, 2), frame(1, 2), frame(1, 2)])
    assert next_frame.ages(before_TD).tolist() == [1, 1, 2, 1, 2, 3]


def test_a_run_is_counted(next_frame: ModuleType, cli, tmp_path: Path, midi_folder: Path) -> None:
    folder = tmp_path / "run"
    code, _, err = cli(
        train_module.main, "model=biaxial_lstm", "data=piano_roll_folder",
        f"data.root={midi_folder}", "trainer.max_epochs=1", "sample=null", "model.hidden=4",
        "model.chord_below=true", "trainer.gpus=0", f"hydra.run.dir={folder}",
    )  # fmt: skip
    assert code == 0, err
    code, out, err = cli(next_frame.main, f"run={folder}", "samples=2", "most=3")
    assert code == 0, err
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| ")][1:]
    data = RollFolder(root=midi_folder)
    data.setup()
    sounding = [np.pad(roll_TD, ((1, 0), (0, 0))).astype(int) for roll_TD in data.rolls["val"]]
    starts = sum(int((np.diff(x_TD, axis=0) > 0).any(1).sum()) for x_TD in sounding)
    assert rows[0][:1] == ["| notes at once"]
    assert rows[0][1].startswith(f"{starts}, ")
    assert all(row[2].count(";") < 3 for row in rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "which model? run=RUN"),
        (("run=nowhere", "samples=0"), "samples=0"),
        (("run=nowhere", "sample=2"), "sample"),
        (("run=nowhere",), "nowhere"),
    ],
)
def test_bad_arguments_get_one_line(
    next_frame: ModuleType, cli, arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = cli(next_frame.main, *arguments)
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert message in err
