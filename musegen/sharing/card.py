"""The card of a shared model: README.md with its data, command, metrics and samples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import nn

from musegen import __version__
from musegen.config.explanations import first_line
from musegen.config.runs import load_run_config
from musegen.config.signatures import parameters_of, target_of
from musegen.config.typed import is_path
from musegen.models import Model
from musegen.render.metric_labels import metric_label
from musegen.runtime.atomic import write_text
from musegen.sharing.folder import CARD

MAX_METRICS = 12
"""Rows of the table of metrics. Those per label are left out."""


def about_run(run_dir: Path) -> dict[str, Any]:
    """What config.json says about the run: its data, its test and its seed, without local paths."""
    config = load_run_config(run_dir / "config.yaml")
    return {
        "data": without_paths(config["data"]),
        "assess": config.get("assess") or {},
        "seed": config.get("seed"),
        "metrics": _read_json(run_dir / "test.json"),
        "run": {
            key: value
            for key, value in _read_json(run_dir / "run.json").items()
            if key in ("data", "weights", "epochs", "seconds", "device", "precision", "versions")
        },
    }


def write_card(
    model: Model, run_dir: Path, folder: Path, name: str, samples: int, audio: bool
) -> list[Path]:
    """Write README.md and copy samples of the run beside it. Returns the paths.

    - name: what `musegen.load` is given.
    - samples, audio: how many samples to copy, and whether with their sound.
    """
    config = load_run_config(run_dir / "config.yaml")
    data = target_of(config["data"], "data")
    files = copy_samples(run_dir / "samples", folder / "samples", samples, audio)
    about = about_run(run_dir)
    critic = getattr(model, "critic", None)
    environment = Environment(
        loader=PackageLoader("musegen.sharing"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    metrics = [(k, v) for k, v in about["metrics"].items() if "/" not in k and v is not None]
    text = environment.get_template("card.md").render(
        name=name,
        model=model.name,
        data=config["data"].get("name", data.__name__),
        data_is=first_line(data),
        licence=getattr(data, "licence", "not stated"),
        command=_read_json(run_dir / "run.json").get("command"),
        seed=config.get("seed"),
        weights=number_of_weights(model),
        critic=critic and number_of_weights(critic),
        metrics=[(metric_label(k), f"{v:.4g}") for k, v in metrics[:MAX_METRICS]],
        samples=[path.relative_to(folder).as_posix() for path in files],
        version=__version__,
    )
    write_text(folder / CARD, text)
    return [folder / CARD, *files]


def number_of_weights(module: nn.Module) -> str:
    """With commas between the thousands."""
    return f"{sum(p.numel() for p in module.parameters()):,}"


def copy_samples(source: Path, target: Path, samples: int, audio: bool) -> list[Path]:
    """Copy the files of the first samples of a run, with .wav if `audio`; returns the copies."""
    endings = {".mid", ".png", ".txt"} | ({".wav"} if audio else set())
    paths = sorted(p for p in source.glob("*") if p.suffix in endings)
    stems = list(dict.fromkeys(p.stem for p in paths))[:samples]
    chosen = [p for p in paths if p.stem in stems]
    if chosen:
        target.mkdir(parents=True, exist_ok=True)
    return [Path(shutil.copyfile(p, target / p.name)) for p in chosen]


def without_paths(node: dict[str, Any]) -> dict[str, Any]:
    """The data's settings without the folders of this computer."""
    hints = parameters_of(target_of(node, "data"))[1]
    return {k: v for k, v in node.items() if not is_path(hints.get(k))}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}
