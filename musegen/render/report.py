"""The report page of a run folder, or of several runs side by side."""

from __future__ import annotations

import base64
import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from musegen.codecs.midi import read_notes
from musegen.config.runs import load_run_config
from musegen.errors import UserError
from musegen.metrics.music import degenerate
from musegen.render.dissection_plots import DARK
from musegen.render.metric_labels import metric_label
from musegen.render.page import Audio, Picture, Run, number, page
from musegen.render.setting_labels import loaded_class, setting_texts
from musegen.runtime.atomic import write_text

REPORT, FACTS, MUSIC = "report.html", "run.json", "music.json"
PLOT_WIDTH = 600
"""Pictures of at least so many pixels are plots. Narrower ones are tiles, one pixel per unit."""
PIECES = ("samples", "generated")
"""Folders with .mid and .txt samples."""


def write_page(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page of one run into its folder, or of several runs into `out`. Returns its path.

    Raises `UserError` for a folder without a run.
    """
    folders = [folder.resolve() for folder in folders]
    common = Path(os.path.commonpath([folder.parent for folder in folders]))
    runs = [load_run(f, f.relative_to(common).as_posix()) for f in folders]
    target = out or (folders[0] if len(folders) == 1 else Path()) / REPORT
    write_text(target, page(runs))
    return target


def load_run(folder: Path, name: str) -> Run:
    """Read a run folder. Everything but its config may be missing."""
    if not folder.is_dir():
        raise UserError(f"run={folder}: no such run folder")
    config = load_run_config(folder / "config.yaml")
    facts = _read_json(folder / FACTS)
    model, data = (config[group]["_target_"].rpartition(".")[2] for group in ("model", "data"))
    data = config["data"].get("name", data)  # the data set, if a class reads several
    commands = {"train": facts["command"]} if facts.get("command") else {}
    commands["test"] = f"musegen evaluate run={folder}"
    commands["generate"] = f"musegen generate run={folder}"
    return Run(
        name=name,
        title=f"{model} on {data}",
        facts={"Model": model, "Data": data, **_labelled_facts(facts, config)},
        commands=commands,
        config=(folder / "config.yaml").read_text(encoding="utf-8"),
        settings=_flatten(
            {k: v for k, v in config.items() if k not in ("overrides", "resume")},
            str(config.get("run_dir")),
        ),
        history=_history(folder / "metrics.csv"),
        monitor=str(config.get("monitor")),
        test=_read_json(folder / "test.json"),
        music=_music(folder / MUSIC),
        pieces=[_audio(p, folder) for sub in PIECES for p in sorted((folder / sub).glob("*.mid"))],
        pictures=_pictures(folder),
        texts={
            p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8").rstrip("\n")
            for sub in PIECES
            for p in sorted((folder / sub).glob("*.txt"))
        },
        sound=config.get("sound", "piano"),
        loss_metric=getattr(loaded_class(config["model"]), "loss_metric", None),
        setting_texts=setting_texts(config),
    )


def _labelled_facts(facts: dict[str, Any], config: dict[str, Any]) -> dict[str, str]:
    """The values of run.json and the config's seed as texts, by label."""
    seed = {"Seed": str(config.get("seed"))}
    if config.get("init_from"):
        seed = {"Started with the weights of": str(config["init_from"]), **seed}
    if not facts:
        return seed
    minutes, seconds = divmod(round(facts["seconds"]), 60)
    hours, minutes = divmod(minutes, 60)
    return {
        "Parameters": f"{facts['weights']:,}",
        "Splits": facts["data"],
        "Device": facts["device"],
        "Precision": facts["precision"],
        "Started": facts["started"],
        "Duration": f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s",
        "Epochs": str(facts["epochs"]),
        f"Best: {metric_label(str(config.get('monitor')).partition('/')[2])}": number(
            facts["best"]
        ),
        **seed,
        "Versions": ", ".join(f"{k} {v}" for k, v in facts["versions"].items()),
        **({"Commit": facts["commit"]} if facts["commit"] else {}),
    }


def _audio(path: Path, folder: Path) -> Audio:
    notes = read_notes(path)
    name = path.relative_to(folder).with_suffix("").as_posix()
    return Audio(name, notes, _data_url(path, "audio/midi"), degenerate(notes))


def _pictures(folder: Path) -> list[Picture]:
    """The pictures of the folder, without those of earlier epochs and without piano-rolls, which
    the page draws itself. A version for a dark page belongs to its picture."""
    pictures = []
    for path in sorted(folder.rglob("*.png")):
        parent, dark = path.parent, path.with_name(f"{path.stem}{DARK}.png")
        earlier = parent.name.startswith("epoch_") and parent != max(parent.parent.glob("epoch_*"))
        is_dark = (
            path.stem.endswith(DARK)
            and path.with_name(f"{path.stem.removesuffix(DARK)}.png").exists()
        )
        if not earlier and not is_dark and not path.with_suffix(".mid").exists():
            name = path.relative_to(folder).with_suffix("").as_posix()
            width = int.from_bytes(path.read_bytes()[16:20], "big")  # in the PNG's header
            tile_width = width if width < PLOT_WIDTH else None
            dark_url = _data_url(dark, "image/png") if dark.exists() else None
            pictures.append(Picture(name, _data_url(path, "image/png"), tile_width, dark_url))
    return pictures


def _music(path: Path) -> dict[str, Any]:
    """The content of music.json; empty if it is missing, or in the form of versions before 0.2."""
    music = _read_json(path)
    return music if "measures" in music else {}


def _data_url(path: Path, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _history(path: Path) -> dict[str, list[tuple[float, float]]]:
    """(epoch, value) of each column of metrics.csv: the last value of each epoch, from epoch 1."""
    if not path.exists():
        return {}
    columns: dict[str, dict[float, float]] = {}
    with open(path, newline="") as table:
        for row in csv.DictReader(table):
            if not row.get("epoch"):
                continue  # test metrics have no epoch
            for name, value in row.items():
                if value and name not in ("epoch", "step"):
                    columns.setdefault(name, {})[float(row["epoch"]) + 1] = float(value)
    return {name: sorted(points.items()) for name, points in columns.items()}


def _flatten(config: Any, run_dir: str, name: str = "") -> dict[str, str]:
    """`{"model": {"hidden": 8}}` → `{"model.hidden": "8"}`, with {run_dir} for the run's folder."""
    if not isinstance(config, dict) or not config:
        return {name: str(config).replace(run_dir, "{run_dir}")}
    flat: dict[str, str] = {}
    for key, value in config.items():
        flat |= _flatten(value, run_dir, f"{name}.{key}" if name else str(key))
    return flat


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as e:
        raise UserError(f"{path}: not a JSON object ({e}); delete it, or write it again") from e
