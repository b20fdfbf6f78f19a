"""`musegen new`: the folders that it writes work in every command, to the last step."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from musegen.cli.main import main

SHORT = [
    "trainer.max_epochs=1", "trainer.gpus=0", "trainer.max_steps=2", "sample.n=2",
    "sample.length=5", "preview.n=1", "callbacks.progress=null",
]  # fmt: skip
ANBN = ["data=anbn", "data.train_size=8", "data.batch_size=4", "data.val_n=[1,2]",
        "data.test_n=[1,2]", "data.count_to=2"]  # fmt: skip


@pytest.fixture(autouse=True)
def modules_of_this_test() -> Iterator[None]:
    """Forget the modules and the import path of the folder that a test has made."""
    before, path = set(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if name.startswith(("my_", "test_my_")):
            del sys.modules[name]


def test_a_new_model_works_in_every_command(cli, tmp_path: Path) -> None:
    code, out, err = cli(main, "new", "model", "my_net", "out=.")
    assert (code, out) == (1, "")
    assert err.startswith("musegen: .: there is such a file or folder")
    code, out, err = cli(main, "new", "model", "my_net", "out=.//new")
    assert code == 0, err
    folder = tmp_path / "new"
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert files == ["README.md", "conf/model/my_net.yaml", "my_net.py", "test_my_net.py"]
    assert "class MyNet(Model)" in (folder / "my_net.py").read_text()
    sys.path.append(str(folder))

    choice = [f"--config-dir={folder / 'conf'}", "model=my_net", "model.hidden=4"]
    code, out, err = cli(main, "train", *choice, *ANBN, "--help")
    assert code == 0, err
    assert "  model.hidden  integer ≥ 1, default 4\n      units of the GRU." in out
    for arguments in (
        ["train", *choice, *ANBN, *SHORT, "hydra.run.dir=run"],
        ["generate", "run=run", "n=3", "length=5"],
        ["evaluate", "run=run"],
        ["report", "run=run"],
        ["train", "resume=run", "trainer.max_epochs=2", "trainer.max_steps=3"],
        ["train", "model._target_=my_net.MyNet", "model.hidden=4", *ANBN, *SHORT,
         "hydra.run.dir=other"],
        ["sweep", "trials=1", *choice[:2], "model.hidden=3,4", *ANBN, *SHORT],
    ):  # fmt: skip
        code, out, err = cli(main, *arguments)
        assert code == 0, (arguments, out + err)
    assert json.loads((tmp_path / "run" / "test.json").read_text())["nll"] > 0
    assert len((tmp_path / "run" / "generated" / "samples.txt").read_text().splitlines()) == 3
    assert (tmp_path / "runs" / "study" / "0" / "report.html").exists()


def test_a_new_data_set_works(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = cli(main, "new", "data", "my_strings")
    assert code == 0, err
    folder = tmp_path / "my_strings"
    sys.path.append(str(folder))
    run = [
        "train", f"--config-dir={folder / 'conf'}", "model=char_rnn", "data=my_strings",
        "model.hidden=4", "data.size=8", *SHORT, "hydra.run.dir=run",
    ]  # fmt: skip
    code, out, err = cli(main, *run)
    assert code == 0, out + err
    code, out, err = cli(main, "evaluate", "run=run", "data.size=20")
    assert code == 0, out + err
    tests = importlib.import_module("test_my_strings")  # its own test, in the folder
    tests.test_every_string_is_a_palindrome()
    tests.test_two_updates_and_everything_after_them(tmp_path / "own")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model"], "what, and with which name?"),
        (["tune", "x"], "new.kind=tune: should be"),
        (["model", "My-Net"], "My-Net: write a name of small letters"),
        (["model", "rbm"], "rbm: musegen has model=rbm already"),
        (["data", "json"], "json: there is a Python module of this name"),
        (["model", "a", "b"], "cannot read 'b'"),
    ],
)
def test_a_wrong_name_is_refused_in_one_line(cli, arguments: list[str], message: str) -> None:
    code, out, err = cli(main, "new", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"musegen: {message}")
    assert err.count("\n") == 1
