"""The `musegen` command: its subcommands, their help, and what it says to a wrong command."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
import pytorch_lightning as pl

from musegen import __version__
from musegen.cli import (
    completion,
    count,
    critic,
    dissect,
    evaluate,
    export,
    generate,
    new,
    publish,
    report,
    studio,
    sweep,
)
from musegen.cli import list as list_command
from musegen.cli.main import COMMANDS, main
from musegen.cli.usage import Section, section_text, type_name
from musegen.codecs.chars import CharCodec
from musegen.constraints import DropoutRate, PositiveInt
from musegen.models import MODELS
from musegen.models.char_rnn import CharRNN
from tests.conftest import ROOT

FUNCTIONS = {
    "generate": generate.generate,
    "evaluate": evaluate.evaluate,
    "list": list_command.show,
    "export": export.export,
    "publish": publish.publish,
    "new": new.new,
    "completion": completion.completion,
    "report": report.report,
    "sweep": sweep.search,
    "studio": studio.serve,
    "critic": critic.train,
    "dissect": dissect.write,
    "count": count.table,
}


def save_char_rnn(path: Path) -> None:
    codec = CharCodec("01", unknown=False)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(CharRNN(codec.spec, codec, hidden=2, embedding=2))
    trainer.save_checkpoint(path)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command(cli, flag: str) -> None:
    code, out, err = cli(main, flag)
    assert (code, err) == (0, "")
    for name, summary in COMMANDS.items():
        assert f"  {name}" in out
        assert summary in out


def test_no_command_is_a_usage_error(cli) -> None:
    code, out, _ = cli(main)
    assert code == 2
    assert out.startswith("usage: musegen COMMAND")


def test_an_unknown_command_is_refused_in_one_line(cli) -> None:
    code, out, err = cli(main, "generte", "run=x")
    assert (code, out) == (2, "")
    assert err == "musegen: generte: no such command; did you mean generate?\n"


def test_every_module_with_a_main_is_a_command() -> None:
    modules = {path.stem for path in (ROOT / "musegen" / "cli").glob("*.py")}
    for name in modules - {"__init__", "main"}:
        module = importlib.import_module(f"musegen.cli.{name}")
        assert hasattr(module, "main") == (name in COMMANDS), name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_answers_help(cli, command: str) -> None:
    code, out, err = cli(main, command, "--help")
    assert (code, err) == (0, "")
    assert "Traceback" not in out
    if command == "train":
        assert "model=NAME data=NAME" in out
        return
    assert out.startswith(f"usage: musegen {command} ")
    assert f"examples:\n  musegen {command}" in out
    for name, parameter in inspect.signature(FUNCTIONS[command]).parameters.items():
        if name in ("overrides", "settings"):
            continue
        (line,) = [line for line in out.splitlines() if line.startswith(f"  {name}  ")]
        required = parameter.default is parameter.empty
        assert line.endswith(", required") if required else ", default " in line


def test_help_of_generate_lists_the_settings_of_every_model(cli) -> None:
    _, out, _ = cli(main, "generate", "--help")
    for name, model in MODELS.items():
        _, found, after = out.partition(f"settings of {name}:\n")
        assert found
        listed = after.partition("\n\n")[0]
        for setting in inspect.signature(model.generate).parameters:
            assert f"  {setting}  " in listed or setting in ("self", "start_ND")


def test_help_with_a_run_lists_only_its_model(cli, tmp_path: Path) -> None:
    save_char_rnn(tmp_path / "a.ckpt")
    code, out, err = cli(main, "generate", f"run={tmp_path / 'a.ckpt'}", "--help")
    assert code == 0, err
    assert "settings of char_rnn:\n  n  integer" in out
    assert "top_p" in out
    assert "settings of rbm" not in out
    code, out, err = cli(main, "evaluate", f"run={tmp_path / 'a.ckpt'}", "--help")
    assert code == 0, err
    assert "assess.temperature  number" in out
    assert "  assess.ais_steps  " not in out


def test_help_with_a_missing_run_is_one_line(cli, tmp_path: Path) -> None:
    code, out, err = cli(main, "generate", f"run={tmp_path / 'none'}", "--help")
    assert (code, out) == (1, "")
    assert err == f"musegen: run={tmp_path / 'none'}: no such run folder or checkpoint\n"


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        (PositiveInt, "integer ≥ 1"),
        (DropoutRate, "number ≥ 0, ≤ 0.999"),
        (PositiveInt | None, "integer ≥ 1 or null"),
        (Literal["a", "b", None], "a|b|null"),
        (tuple[float, float], "[number,number]"),
        (tuple[str, ...], "list of text"),
        (list[int], "list of integer"),
        (bool, "true|false"),
        (Path | None, "path or null"),
    ],
)
def test_types_are_written_as_a_user_types_them(hint, message: str) -> None:
    assert type_name(hint) == message


def test_a_section_without_settings_is_left_out() -> None:
    assert section_text(Section("settings", lambda: None)) == ""


@pytest.mark.slow
def test_the_package_can_be_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "musegen", "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: musegen COMMAND")
    assert __version__


@pytest.mark.parametrize("command", [["-m", "musegen", "generate"], [str(ROOT / "train.py")]])
def test_ctrl_c_during_the_imports_gives_one_line(tmp_path: Path, command: list[str]) -> None:
    # numpy is one of the first imports; this one takes the signal as some libraries do.
    (tmp_path / "numpy.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n    signal.pause()\n"
        "except KeyboardInterrupt:\n    raise ImportError('lost')\n"
    )
    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "musegen: interrupted\n")
