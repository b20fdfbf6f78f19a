"""What there is to choose from: models, data sets, experiments, and the runs in a folder."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from musegen.config.explanations import first_line
from musegen.config.groups import CONF, config_choices
from musegen.config.runs import load_run_config
from musegen.config.signatures import target_of
from musegen.errors import UserError

MAX_DEPTH = 4
"""Run folders are searched for so many folders deep: runs/sweeps/STUDY/JOB is the deepest."""


class Entry(NamedTuple):
    """One line of a list, and the lines below it."""

    name: str
    text: str
    details: tuple[str, ...] = ()


def models() -> list[Entry]:
    """The models, with the data that each can read."""
    data = {name: _target("data", name) for name in config_choices("data")}
    entries = []
    for name in config_choices("model"):
        model = _target("model", name)
        fitting = [d for d, cls in data.items() if set(model.reads) & set(cls.yields)]
        text = first_line(sys.modules[model.__module__])
        entries.append(Entry(name, text, (f"data={'|'.join(fitting)}",)))
    return entries


def data_sets() -> list[Entry]:
    """The data sets, with what each needs and whether it is here."""
    entries = []
    for name in config_choices("data"):
        node = OmegaConf.load(CONF / "data" / f"{name}.yaml")
        settings = {str(k): v for k, v in node.items() if k != "_target_"}
        data = _target("data", name)
        needs, here = data.availability(**settings)
        state = {True: "here", False: "not here yet", None: "your own files"}[here]
        text = f"{settings['name']}: {first_line(data)}" if "name" in settings else first_line(data)
        entries.append(Entry(name, text, (f"needs {needs} ({state})",)))
    return entries


def experiments() -> list[Entry]:
    """The experiments, with what each reaches and takes, from the comments at their head."""
    entries = []
    for name in config_choices("experiment"):
        fields = header(CONF / "experiment" / f"{name}.yaml")
        labels = {"Reaches": "reaches", "Takes": "size and time"}
        details = tuple(f"{labels[k]}: {fields[k]}" for k in labels if k in fields)
        entries.append(Entry(name, fields["is"], details))
    return entries


def header(path: Path) -> dict[str, str]:
    """The comment at the head of an experiment: `is`, its first sentence, `Reaches` and `Takes`."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines()[1:]:
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    text = "\n".join(lines)
    fields = re.findall(r"^(Reaches|Takes): (.+(?:\n  .+)*)", text, re.M)
    sentence = re.split(r"(?<=[a-zⁿ\d]\.) (?=[A-Z])", " ".join(lines))[0]
    return {"is": sentence, **{k: " ".join(v.split()).rstrip(".") for k, v in fields}}


def runs(folder: Path) -> list[Entry]:
    """The runs below a folder, the latest first."""
    found = []
    for config in _configs(folder, MAX_DEPTH):
        try:
            settings = load_run_config(config)
            classes = [settings[g]["_target_"].rpartition(".")[2] for g in ("model", "data")]
        except (UserError, KeyError, TypeError, AttributeError):
            continue  # some other program's config.yaml
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(config.stat().st_mtime))
        entry = Entry(str(config.parent), f"{' on '.join(classes)}, {when}", _result(config.parent))
        found.append((config.stat().st_mtime, entry))
    return [entry for _, entry in sorted(found, key=lambda item: -item[0])]


def _configs(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "config.yaml").is_file():
        yield folder / "config.yaml"
    elif depth and folder.is_dir():
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.name.startswith("."):
                yield from _configs(child, depth - 1)


def _result(run: Path) -> tuple[str, ...]:
    """The first metrics of the test, or how far the run is."""
    try:
        return first_metrics(json.loads((run / "test.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError):
        resumable = (run / "checkpoints" / "last.ckpt").exists()
        return (f"not finished; to resume: resume={run}" if resumable else "no checkpoint",)


def first_metrics(metrics: dict[str, float | None]) -> tuple[str, ...]:
    """The first metrics of a test, in one line; no line without a test."""
    shown = [f"{name} {value:.4g}" for name, value in metrics.items() if value is not None]
    return (f"test: {', '.join(shown[:3])}",) if shown else ()


def _target(group: str, name: str) -> Any:
    """The class of a choice, without composing a whole config."""
    node = OmegaConf.load(CONF / group / f"{name}.yaml")
    assert isinstance(node, DictConfig)
    return target_of(node.get(group, node), group)
