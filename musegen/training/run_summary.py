"""The summary of a finished run: run.json, music.json for music, and the report page."""

from __future__ import annotations

import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from musegen.codecs.midi import read_notes
from musegen.metrics.music_comparison import compare
from musegen.models import Model
from musegen.render.music_table import summary_lines
from musegen.render.report import FACTS, MUSIC, write_page
from musegen.runtime.atomic import write_json
from musegen.runtime.commands import train_command
from musegen.runtime.threads import describe_threads


def write_report(
    settings: dict[str, Any], model: Model, data: Any, trainer: pl.Trainer, started: float
) -> Path:
    """Write run.json, music.json and the report page of a finished run; returns the page's path.

    run.json holds the model, the data, the device and the seconds since `started` (a
    `time.time()`). music.json, for data that is music, holds the metrics of the samples beside
    those of the training pieces and of the validation split (see `compare`); the worst are printed.
    """
    run_dir = Path(settings["run_dir"])
    write_json(run_dir / FACTS, _facts(settings, model, data, trainer, started))
    paths = sorted((run_dir / "samples").glob("*.mid"))
    if paths and (training := data.notes("train")):
        samples = [read_notes(path) for path in paths]
        music = compare(samples, training, data.notes("val"), data.beat, data.frame)
        write_json(run_dir / MUSIC, music)
        for line in summary_lines(music):
            print(line)
    return write_page([run_dir])


def _facts(
    settings: dict[str, Any], model: Model, data: Any, trainer: pl.Trainer, started: float
) -> dict[str, Any]:
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else describe_threads()
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    return {
        "model": model.name,
        "weights": sum(p.numel() for p in model.parameters()),
        "data": data.describe(),
        "device": f"{trainer.world_size} × {device.type} ({name})",
        "precision": str(trainer.precision),
        "epochs": trainer.current_epoch,
        "best": None if score is None else float(score),
        "started": time.strftime("%Y-%m-%d %H:%M", time.localtime(started)),
        "seconds": time.time() - started,
        "command": train_command(*settings["overrides"]),
        "commit": _commit(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "pytorch-lightning")},
        },
    }


def _commit() -> str | None:
    """The commit of the clone that this code is in; None outside a clone, or without git."""
    folder = Path(__file__).parent
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=folder, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
