"""A run's page: `python -m musegen.report run=<run folder> [run=<another>] [out=FILE]`.

One run folder gets its report.html anew; several are put side by side on one page. The page is
one file that opens from disk, and asks no network for anything.
"""

from __future__ import annotations

import base64
import csv
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from musegen import cli
from musegen.atomic import write_json, write_text
from musegen.build import run_config
from musegen.codecs.midi import read_notes
from musegen.contracts import UserError
from musegen.metrics.music import degenerate
from musegen.metrics.music_sets import compare
from musegen.models import Model
from musegen.render.page import Heard, Run, Seen, number, page

REPORT, FACTS, MUSIC = "report.html", "run.json", "music.json"
PLOT = 600
"""Pixels across from which on a picture is a plot; narrower ones are tiles, a pixel a unit."""
PIECES = ("samples", "generated")
"""Folders whose .mid files are played; each has a picture beside it that is not needed here."""


def conclude(
    settings: dict[str, Any], model: Model, data: Any, trainer: pl.Trainer, began: float
) -> Path:
    """Write what the folder of a finished run does not tell yet, and then its page.

    run.json holds what was trained, on what and for how long (`began`: `time.time()` at the
    start); music.json the figures of the samples beside the training pieces' (see `compare`),
    where the data is music.
    """
    run_dir = Path(settings["run_dir"])
    write_json(run_dir / FACTS, _facts(settings, model, data, trainer, began))
    paths = sorted((run_dir / "samples").glob("*.mid"))
    if paths and (training := data.training_notes()):
        figures = compare([read_notes(path) for path in paths], training, data.beat)
        write_json(run_dir / MUSIC, figures)
    return write([run_dir])


def _facts(
    settings: dict[str, Any], model: Model, data: Any, trainer: pl.Trainer, began: float
) -> dict[str, Any]:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else threads()
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    return {
        "model": model.name,
        "weights": sum(p.numel() for p in model.parameters()),
        "data": data.describe(),
        "device": f"{trainer.world_size} × {device.type} ({name})",
        "precision": str(trainer.precision),
        "epochs": trainer.current_epoch,
        "best": None if score is None else float(score),
        "began": time.strftime("%Y-%m-%d %H:%M", time.localtime(began)),
        "seconds": time.time() - began,
        "command": command(*settings["typed"]),
        "commit": _commit(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "pytorch-lightning")},
        },
    }


def command(*arguments: str) -> str:
    """How this program is begun with other arguments, as a shell reads it."""
    installed = Path(sys.argv[0]).name == "musegen-train"
    return shlex.join([*(["musegen-train"] if installed else ["python", "train.py"]), *arguments])


def threads() -> str:
    """How many threads compute, in words."""
    n = torch.get_num_threads()
    return f"{n} thread{'s' if n > 1 else ''}"


def _commit() -> str | None:
    """The commit of the clone that this runs from; None where it is no clone, or git is not."""
    here = Path(__file__).parent
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=here, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None


def write(folders: Sequence[Path], out: Path | None = None) -> Path:
    """Write the page of a run folder into it, or of several into `out`; returns its path.

    Raises `UserError` for a folder that holds no run.
    """
    folders = [folder.resolve() for folder in folders]
    common = Path(os.path.commonpath([folder.parent for folder in folders]))
    runs = [load_run(f, f.relative_to(common).as_posix()) for f in folders]
    target = out or (folders[0] if len(folders) == 1 else Path()) / REPORT
    write_text(target, page(runs))
    return target


def load_run(folder: Path, name: str) -> Run:
    """What a run folder tells; what is not in it is left out."""
    if not folder.is_dir():
        raise UserError(f"run={folder}: no such run folder")
    config = run_config(folder / "config.yaml")
    facts = _read_json(folder / FACTS)
    model, data = (config[group]["_target_"].rpartition(".")[2] for group in ("model", "data"))
    data = config["data"].get("name", data)  # of several sets that one class reads
    commands = {"train": facts["command"]} if facts.get("command") else {}
    commands["test again"] = f"python -m musegen.evaluate run={folder}"
    commands["generate more"] = f"python -m musegen.generate run={folder}"
    return Run(
        name=name,
        title=f"{model} on {data}",
        facts={"Model": model, "Data": data, **_spoken(facts, config)},
        commands=commands,
        config=(folder / "config.yaml").read_text(encoding="utf-8"),
        settings=_flat(
            {k: v for k, v in config.items() if k not in ("typed", "resume")},
            str(config.get("run_dir")),
        ),
        history=_history(folder / "metrics.csv"),
        monitor=str(config.get("monitor")),
        test=_read_json(folder / "test.json"),
        music=_read_json(folder / MUSIC),
        pieces=[_heard(p, folder) for sub in PIECES for p in sorted((folder / sub).glob("*.mid"))],
        pictures=_pictures(folder),
        texts={
            p.relative_to(folder).as_posix(): p.read_text(encoding="utf-8").rstrip("\n")
            for sub in PIECES
            for p in sorted((folder / sub).glob("*.txt"))
        },
    )


def _spoken(facts: dict[str, Any], config: dict[str, Any]) -> dict[str, str]:
    """run.json as a person reads it, with the seed of the config."""
    spoken = {"Seed": str(config.get("seed"))}
    if not facts:
        return spoken
    minutes, seconds = divmod(round(facts["seconds"]), 60)
    hours, minutes = divmod(minutes, 60)
    return {
        "Weights": f"{facts['weights']:,}",
        "Splits": facts["data"],
        "Device": facts["device"],
        "Precision": facts["precision"],
        "Began": facts["began"],
        "Took": f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s",
        "Epochs": str(facts["epochs"]),
        f"Best {config.get('monitor')}": number(facts["best"]),
        **spoken,
        "Versions": ", ".join(f"{k} {v}" for k, v in facts["versions"].items()),
        **({"Commit": facts["commit"]} if facts["commit"] else {}),
    }


def _heard(path: Path, folder: Path) -> Heard:
    notes = read_notes(path)
    name = path.relative_to(folder).with_suffix("").as_posix()
    return Heard(name, notes, _address(path, "audio/midi"), degenerate(notes))


def _pictures(folder: Path) -> list[Seen]:
    """Every picture of the folder, of those made epoch by epoch the last; piano-rolls are drawn
    by the page itself."""
    found = []
    for path in sorted(folder.rglob("*.png")):
        made = path.parent
        earlier = made.name.startswith("epoch_") and made != max(made.parent.glob("epoch_*"))
        if not earlier and not path.with_suffix(".mid").exists():
            name = path.relative_to(folder).with_suffix("").as_posix()
            width = int.from_bytes(path.read_bytes()[16:20], "big")
            tiles = width if width < PLOT else None
            found.append(Seen(name, _address(path, "image/png"), tiles))
    return found


def _address(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _history(path: Path) -> dict[str, list[tuple[float, float]]]:
    """(epoch from 1, value) of each column of metrics.csv, the last value of an epoch."""
    if not path.exists():
        return {}
    columns: dict[str, dict[float, float]] = {}
    with open(path, newline="") as table:
        for row in csv.DictReader(table):
            if not row.get("epoch"):
                continue  # the test figures, which belong to none
            for name, value in row.items():
                if value and name not in ("epoch", "step"):
                    columns.setdefault(name, {})[float(row["epoch"]) + 1] = float(value)
    return {name: sorted(points.items()) for name, points in columns.items()}


def _flat(config: Any, run_dir: str, name: str = "") -> dict[str, str]:
    """`{"model": {"hidden": 8}}` → `{"model.hidden": "8"}`, the run's folder under one name."""
    if not isinstance(config, dict) or not config:
        return {name: str(config).replace(run_dir, "{run_dir}")}
    flat: dict[str, str] = {}
    for key, value in config.items():
        flat |= _flat(value, run_dir, f"{name}.{key}" if name else str(key))
    return flat


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text()))
    except ValueError as e:
        raise UserError(f"{path}: not a JSON object ({e}); delete it or test again") from e


def main() -> None:
    cli.quiet()
    with cli.one_line_errors():
        settings = [argument.partition("=") for argument in sys.argv[1:]]
        runs = [Path(value) for key, _, value in settings if key == "run"]
        outs = [Path(value) for key, _, value in settings if key == "out"]
        if not runs or len(outs) > 1 or len(runs) + len(outs) < len(settings):
            raise UserError(
                "which runs? python -m musegen.report run=<run folder> [run=<another>] [out=FILE]"
            )
        print(write(runs, *outs))


if __name__ == "__main__":
    main()
