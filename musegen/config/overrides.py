"""`key=value` arguments: quoting, composition by Hydra, and the effect of `resume=`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from musegen.config.groups import CONF
from musegen.config.runs import load_run_config
from musegen.config.typed import keep_texts
from musegen.errors import UserError

FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "run_dir")
"""Keys whose value is always a path, and never a list of values to sweep over."""


def force_add_overrides(arguments: list[str]) -> list[str]:
    """Let `data.batch_size=16` set a constructor's parameter that is in no YAML file.

    Hydra refuses keys that are in no file, and the files hold only what differs from the
    constructors' defaults. Dotted keys therefore become `++key=value`; `check_settings` checks
    their names.
    """
    sweep = is_sweep(arguments)
    return [
        f"++{a}" if re.match(r"[A-Za-z_]\w*\.[\w.@-]+=", a) and not a.startswith("hydra.") else a
        for a in (quote_override(a, sweep) for a in arguments)
    ]


def is_sweep(arguments: list[str]) -> bool:
    """Whether the arguments ask Hydra for a sweep."""
    return bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(arguments))


def quote_override(argument: str, sweep: bool = False) -> str:
    """The argument, with its value in quotes if Hydra's grammar would not read it as one text.

    Folder names with an accent or a parenthesis need quotes. Except in a `sweep`, so do those with
    a comma, which separates the values of a sweep.
    """
    key, equals, value = argument.partition("=")
    if not (equals and value):
        return argument
    quoted = f"{key}={_in_quotes(value)}"
    if key in FOLDERS:
        is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
        return argument if is_quoted else f"{key}={_in_quotes(os.path.expanduser(value))}"
    parser = OverridesParser.create()
    for candidate in (argument, quoted):
        try:
            parsed = parser.parse_override(candidate)
        except HydraException:
            continue
        if sweep or "." not in key or not _is_plain_list(parsed):
            return candidate
    return argument


def _is_plain_list(parsed: Override) -> bool:
    """Whether the value is a sweep over values with commas between them, as in `a,b`."""
    return parsed.is_choice_sweep() and bool(parsed.value().simple_form)  # type: ignore[union-attr]


def _in_quotes(value: str) -> str:
    """The value in single quotes; a backslash escapes only quotes, and itself before a quote."""
    inner = re.sub(r"(\\*)('|$)", lambda found: 2 * found[1] + (found[2] and "\\'"), value)
    return f"'{inner}'"


def compose_config(overrides: list[str]) -> DictConfig:
    """The config of conf/train.yaml with these overrides, inside or outside a Hydra application."""
    overrides = force_add_overrides(overrides)
    if GlobalHydra.instance().is_initialized():
        cfg = compose("train", overrides)
    else:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", overrides)
    keep_texts(cfg, overrides)
    return cfg


def with_search_path(arguments: list[str]) -> list[str]:
    """The arguments with `--config-dir` as an override that `compose_config` takes."""
    rest, folders = [], []
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, value = argument.partition("=")
        if name in ("--config-dir", "-cd"):
            folder = Path(value if equals else next(remaining, "")).expanduser().absolute()
            folders.append(_in_quotes(f"file://{folder}"))
        else:
            rest.append(argument)
    return [*([f"hydra.searchpath=[{','.join(folders)}]"] if folders else []), *rest]


def command_line_overrides() -> list[str]:
    """The overrides of the job that Hydra is running; in a sweep, only those of this job.

    The user's own config folder comes first, because the others may name files in it.
    """
    if not HydraConfig.initialized():
        return []
    hydra = HydraConfig.get()
    folders = [s.path for s in hydra.runtime.config_sources if s.provider == "command-line"]
    overrides = [o.removeprefix("++") for o in hydra.overrides.task]
    return [
        *(f"--config-dir={Path(folder).absolute()}" for folder in folders),
        *(o for o in overrides if not o.startswith("resume=")),
    ]


def sweep_job() -> tuple[str, bool] | None:
    """The name of the sweep job that Hydra is running, and whether it runs in its own process.

    None for a single run.
    """
    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return None
    return f"job {hydra.job.num}", hydra.runtime.choices["hydra/launcher"] != "basic"


def expand_resume(arguments: list[str]) -> list[str]:
    """With `resume=<run folder>`, put that run's own overrides before those of this command.

    `resume=auto` means the folder of `hydra.run.dir`, and starts a new run if that holds no
    config yet: the same command then starts a job and resumes it. In a sweep it means the folder
    of each job in `hydra.sweep.dir`.

    Raises `UserError` for a folder that holds no run, or whose last checkpoint was deleted.
    """
    given = {a.partition("=")[0]: a.partition("=")[2] for a in arguments}
    if given.get("resume", "null") == "null":
        return arguments
    if is_sweep(arguments):
        if given["resume"] == "auto":
            return arguments
        raise UserError(
            "resume=DIR resumes a single run: leave out -m, or resume all jobs of a sweep with "
            "resume=auto hydra.sweep.dir=DIR"
        )
    run_dir = given.get("hydra.run.dir", "").strip("'\"")
    if given["resume"] == "auto" and not run_dir:
        raise UserError("resume=auto needs the run's folder: add hydra.run.dir=DIR")
    folder = Path(run_dir if given["resume"] == "auto" else given["resume"]).expanduser()
    config = folder / "config.yaml"
    # `auto` may restart a run that was killed before it had written last.ckpt.
    if given["resume"] != "auto" or (folder / "test.json").exists():
        _check_last_checkpoint(folder)
    rest = [a for a in arguments if not a.startswith(("resume=", "hydra.run.dir="))]
    if config.exists():
        before = load_run_config(config).get("overrides", [])
        rest = [*before, *(a for a in rest if a not in before)]
    elif given["resume"] != "auto":
        raise UserError(f"resume={folder}: no config.yaml in this folder, so no run to resume")
    quoted = _in_quotes(str(folder.absolute()))
    return [*rest, f"resume={quoted}", f"hydra.run.dir={quoted}"]


def _check_last_checkpoint(folder: Path) -> None:
    best, last = (folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    if best.exists() and not last.exists():
        raise UserError(
            f"resume={folder}: checkpoints/last.ckpt is missing, and best.ckpt holds only weights, "
            "from which no run can be resumed; start a new run in another folder"
        )
