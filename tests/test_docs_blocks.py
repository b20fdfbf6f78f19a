"""Every code block of README.md and docs/ runs, shortened where it is long.

Where running is impossible (a download, a GPU, SLURM, hours), at least every name and value in its
commands is checked, as the command itself would before any work. A block that can be neither has
`<!-- not run: REASON -->` on the line above it. The pages that are notebooks are run by the docs'
build, except for their bash blocks.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, tune
from doc_blocks import Block, blocks, commands, train_arguments
from hydra.errors import HydraException

from musegen.cli import (
    completion,
    count,
    critic,
    dissect,
    evaluate,
    export,
    generate,
    publish,
    report,
)
from musegen.cli import list as list_module
from musegen.cli import new as new_module
from musegen.cli import studio as studio_module
from musegen.cli import train as train_module
from musegen.cli.infilling import GIVEN
from musegen.codecs.midi import write_notes
from musegen.config.formats import check_formats
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.config.sound import check_sound
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.errors import UserError
from musegen.models import MODELS

BASH, PYTHON = blocks("bash"), blocks("python")
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
    "optional-dependencies"
]
OTHER_PROGRAMS = {"python3", "scontrol"}
"""Programs whose arguments are not ours to check."""


def test_the_blocks_are_found() -> None:
    assert len(BASH) > 50
    assert len(PYTHON) > 3
    assert {"README.md", "docs/start/train.md", "docs/results/rnn_rbm.md"} <= {b.page for b in BASH}


def test_every_block_says_its_language() -> None:
    assert [str(b) for b in blocks("") if b.page != "docs/design.md"] == []  # that is a diagram


def test_commands_are_read_as_a_shell_would() -> None:
    code = (
        "A=1 musegen train \\\n  seed=1   # why\n"
        'for s in 1 2; do .venv/bin/python train.py "x=[1,2]"; done\nif [ $? -eq 3 ]; then ls; fi\n'
    )
    assert commands(code) == [
        ["musegen", "train", "seed=1"], ["python", "train.py", "x=[1,2]"], ["ls"],
    ]  # fmt: skip


# --- Quick: names and values --------------------------------------------------------------------


@pytest.mark.parametrize("block", BASH, ids=str)
def test_commands_have_valid_settings(block: Block) -> None:
    checked = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    if not block.reason:
        for command in commands(block.code):
            check(command)


def check(command: list[str]) -> None:
    """Raise `UserError` or `AssertionError` for what the command would refuse."""
    program, *arguments = command
    if (training := train_arguments(command)) is not None:
        check_training(training)
    elif program == "musegen" and "--help" in arguments:
        assert arguments[0] in {*CHECKS, "--help"}
    elif program == "musegen":
        CHECKS[arguments[0]](arguments[1:])
    elif program == "pip":
        named = re.findall(r"\.\[([\w,]+)\]", " ".join(arguments))
        assert set(",".join(named).split(",")) - {""} <= set(EXTRAS)
    elif program in ("python", "pytest"):
        files = [a for a in arguments if a.endswith(".py")]
        assert all((ROOT / f).is_file() for f in files), files
    elif program == "sphinx-build":
        assert (ROOT / "docs" / "conf.py").is_file()
    else:
        assert program in OTHER_PROGRAMS, f"no check for {program}"


def check_training(arguments: list[str]) -> None:
    """Compose and resolve the run; of a sweep, that of the first values."""
    sweep = bool({"-m", "--multirun"} & set(arguments))
    left_out = ("-", "hydra.", "hydra/", "resume=")
    kept = [a for a in arguments if not a.startswith(left_out) and "$" not in a]
    resolve(*(first_value(a) if sweep else a for a in kept))


@cache
def resolve(*overrides: str) -> None:
    """Compose and resolve a run, once for every time that the pages show it."""
    resolve_config(compose_config([*overrides, "run_dir=unused"]))


def first_value(argument: str) -> str:
    """The override with the first of the values that it searches or sweeps over."""
    key, _, value = argument.partition("=")
    if interval := re.search(r"interval\(([^,]+),", value):
        return f"{key}={interval[1]}"
    return f"{key}={value if value.startswith('[') else value.split(',')[0]}"


def check_sweep(arguments: list[str]) -> None:
    own = ("trials=", "out=", "prune=", "seed=")
    check_training(["-m", *(a for a in arguments if not a.startswith(own))])


def check_generation(arguments: list[str]) -> None:
    """Some model must have all of the settings."""
    given = {k: v for k, _, v in (a.partition("=") for a in arguments)}
    own = {k: given.pop(k) for k in GENERATE_SETTINGS & set(given)}
    settings = {k: v for k, v in given.items() if k not in RUN_SETTINGS}
    if "formats" in own:
        read = read_typed(generate.generate, {"formats": own["formats"]})["formats"]
        check_formats(read, MODELS["lstm_midi"], "generate.formats")
    if "sound" in own:
        check_sound(own["sound"])
    method = "infill" if "infill" in own else "generate"
    refusals = []
    for model in MODELS.values():
        if (function := getattr(model, method, None)) is None:
            continue
        try:
            check_settings(function, read_typed(function, settings), "generate", set(GIVEN))
            return
        except UserError as e:
            refusals.append(str(e))
    raise UserError("; ".join(refusals))


RUN_SETTINGS = ("run", "out")
GENERATE_SETTINGS = {"formats", "sound", "infill", "region"}
"""Settings of the command itself, not of a model."""


def check_evaluation(arguments: list[str]) -> None:
    """Some model must have all of the settings, on its data or on those named."""
    settings = [a for a in arguments if a.partition("=")[0] not in RUN_SETTINGS]
    pairs = [["model=rbm", "data=mnist"], ["model=rnn_rbm", "data=jsb"], []]
    refusals = []
    for pair in pairs:
        try:
            check_training([*pair, *settings])
            return
        except UserError as e:
            refusals.append(str(e))
    raise UserError("; ".join(refusals))


def checked_by(function: Callable[..., Any]) -> Callable[[list[str]], None]:
    """A check of the settings against the function's signature."""

    def check_arguments(arguments: list[str]) -> None:
        settings = dict(a.split("=", 1) for a in arguments)
        check_settings(function, read_typed(function, settings), function.__name__)

    return check_arguments


def check_report(arguments: list[str]) -> None:
    assert {a.partition("=")[0] for a in arguments} <= set(RUN_SETTINGS)


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "generate": check_generation,
    "evaluate": check_evaluation,
    "report": check_report,
    "sweep": check_sweep,
    "new": lambda words: checked_by(new_module.new)(
        [f"kind={words[0]}", f"name={words[1]}", *words[2:]]
    ),
    "list": checked_by(list_module.show),
    "export": checked_by(export.export),
    "publish": checked_by(publish.publish),
    "completion": checked_by(completion.completion),
    "count": checked_by(count.table),
    "dissect": checked_by(dissect.write),
    "critic": checked_by(critic.train),
    "studio": checked_by(studio_module.serve),
}


@pytest.mark.parametrize(
    "command",
    [
        "musegen train model.hiden=3",
        "python train.py experiment=none",
        "musegen train -m model.hidden=many,few",
        "musegen generate run=RUN lenght=3",
        "musegen evaluate run=RUN assess.frames=few",
        "musegen count run=RUN upto=3",
        "musegen generate run=RUN formats=[midi]",
        "musegen export run=RUN format=keras",
        "musegen list what=everything",
        "musegen new modle my_model",
        "musegen sweep trials=3 model.hiden=1,2",
        "python benchmarks/none.py",
        'pip install ".[none]"',
        "conda install musegen",
    ],
)
def test_a_wrong_command_is_found(command: str) -> None:
    (words,) = commands(command)
    with pytest.raises((UserError, AssertionError, HydraException)):
        check(words)


@pytest.mark.parametrize("block", [b for b in PYTHON if not b.reason], ids=str)
def test_python_blocks_run(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block.code, str(block), "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("block", [b for b in PYTHON if b.reason], ids=str)
def test_python_blocks_that_do_not_run_are_python(block: Block) -> None:
    ast.parse(block.code.replace("…", "x"))


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_blocks_can_be_read(block: Block) -> None:
    assert isinstance(yaml.safe_load(block.code), dict)


# --- Slow: the commands of the guides, shortened -------------------------------------------------

SHORT = [
    "trainer.gpus=0", "trainer.max_epochs=1", "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=1", "trainer.limit_test_batches=1", "sample=null",
    "callbacks.samples=null",
]  # fmt: skip
"""What shortens a training."""
SHORTER = {
    "model=rbm": ["assess.chains=2", "assess.reverse_rows=0", "assess.schedule=[[10,1.0]]"],
    "model=rnn_rbm": [
        "callbacks.pretraining.rbm_epochs=1", "callbacks.pretraining.rnn_epochs=1",
        "assess.frames=10", "assess.ais_steps=10", "assess.reverse_frames=0",
    ],
    "experiment=anbn_rnn2": ["callbacks.starts.tries=2", "callbacks.starts.steps=3"],
}  # fmt: skip
"""What else shortens a training with these arguments."""
LOCAL_DATA = {
    "data.root=my/midi", "data=names_faker", "data=anbn", "data.path=my.txt",
    "experiment=anbn_rnn2",
}  # fmt: skip
"""Arguments of trainings that need no download and no long conversion."""
OVERRIDDEN = ("trainer.", "hydra.", "sample.", "resume=")
"""Settings that `SHORT` replaces."""


def runnable_trainings() -> list[list[str]]:
    """The trainings of README and the guides that need nothing from outside, each once."""
    found: dict[tuple[str, ...], None] = {}
    for block in BASH:
        if block.reason or block.page.startswith("docs/results/"):
            continue  # results are measured by complete runs
        for command in commands(block.code):
            arguments = train_arguments(command)
            if arguments and "-m" not in arguments and LOCAL_DATA & set(arguments):
                found[tuple(a for a in arguments if not a.startswith(OVERRIDDEN))] = None
    return [list(arguments) for arguments in found]


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder with the files that the pages call my/midi, other/midi, my.mid, tune.mid, my.txt."""
    for name in [*(f"{d}/midi/{i}.mid" for d in ("my", "other") for i in range(6)), "my.mid"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_notes(tune(sum(name.encode()) % 12), path)
    shutil.copy(tmp_path / "my.mid", tmp_path / "tune.mid")
    (tmp_path / "my.txt").write_text("to be, or not to be\n" * 200, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("arguments", runnable_trainings(), ids=" ".join)
def test_trainings_run(arguments: list[str], cli, workplace: Path) -> None:
    shorter = [s for given, more in SHORTER.items() if given in arguments for s in more]
    run_dir = f"hydra.run.dir={workplace / 'run'}"
    code, out, err = cli(train_module.main, *arguments, *SHORT, *shorter, run_dir)
    assert code == 0, err
    assert "report file:///" in out


@pytest.fixture
def runs(cli, workplace: Path) -> dict[str, Path]:
    """A tiny run of each kind of model that the pages generate with, by a setting it alone has."""
    pretraining = SHORTER["model=rnn_rbm"]
    tiny = {
        "top_p": [
            "model=lstm_midi", "data=midi_folder", "data.root=my/midi", "model.hidden=8",
            "data.codec.time_unit=beats",
        ],
        "ais_steps": [
            "model=rnn_rbm", "data=piano_roll_folder", "data.root=my/midi", *pretraining,
        ],
        "label": [
            "model=char_rnn", "data=names_faker", "data.countries=[Italy,Japan]", "data.size=100",
            "model.hidden=8",
        ],
        "string": [
            "model=char_rnn", "data=anbn", "data.train_size=20", "data.val_n=[1,3]",
            "data.count_to=3", "model.hidden=2",
        ],
    }  # fmt: skip
    found = {}
    for key, arguments in tiny.items():
        found[key] = workplace / "runs" / key
        code, _, err = cli(train_module.main, *arguments, *SHORT, f"hydra.run.dir={found[key]}")
        assert code == 0, err
    return found


MAINS: dict[str, Callable[[], None]] = {
    "generate": generate.main, "evaluate": evaluate.main, "report": report.main,
    "count": count.main, "critic": critic.main, "dissect": dissect.main,
}  # fmt: skip
LIMITS = {"n": 2, "length": 20, "up_to": 20, "ais_steps": 10, "show": 3, "pieces": 4, "epochs": 1}


@pytest.mark.slow
def test_commands_about_runs_run(cli, runs: dict[str, Path]) -> None:
    done: set[tuple[str, ...]] = set()
    for block in BASH:
        for command in [] if block.reason else commands(block.code):
            name = command[1] if command[0] == "musegen" else ""
            arguments = tuple(shortened(name, command[2:], runs))
            left_out = {"--help", "data.binarize=none"} & set(command)
            if name in MAINS and not left_out and arguments not in done:
                done.add(arguments)
                code, _, err = cli(MAINS[name], *arguments)
                assert code == 0, f"{block}: {' '.join(command)}: {err}"
    assert len(done) > 10


def shortened(name: str, arguments: list[str], runs: dict[str, Path]) -> list[str]:
    """The arguments with a tiny run of a fitting model, and with small numbers."""
    keys = {a.partition("=")[0] for a in arguments}
    if name == "critic" or keys & {"particles", "max_hold", "repeat_odds"}:
        keys.add("ais_steps")  # the run of piano-rolls
    if "formats" in keys:
        keys.discard("label")  # the labelled run is one of texts
    kind = next((k for k in ("label", "ais_steps", "top_p") if k in keys), "top_p")
    run = runs["string" if name in ("count", "dissect") else kind]
    found = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "run":
            value = str(run)
        elif key == "label":
            value = "Japan"
        elif key in LIMITS:
            value = str(min(int(value), LIMITS[key]))
        if key != "assess.split" and (key != "label" or kind == "label"):  # of other models
            found.append(f"{key}={value}")
    if name == "critic":
        found += [f"{k}={LIMITS[k]}" for k in ("pieces", "length", "epochs") if k not in keys]
    if name == "generate" and not keys & {"length", "label", "infill"}:
        found.append(f"length={LIMITS['length']}")  # scores of untrained models take minutes
    return found


def test_no_page_loads_anything_from_outside() -> None:
    """Sources name no script, style, font or picture of another computer."""
    outside = re.compile(r"!\[[^\]]*\]\(https?:|<(?:img|script|link)[^>]+https?:")
    found = {p.name for p in (ROOT / "docs").rglob("*.md") if outside.search(p.read_text("utf-8"))}
    assert found == set()
