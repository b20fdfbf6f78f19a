"""What a finished run writes beside its metrics: run.json, and music.json for music."""

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
from musegen.metrics.music_overlap import compare
from musegen.models import Model
from musegen.render.report import FACTS, MUSIC, write_page
from musegen.runtime.atomic import write_json
from musegen.runtime.commands import train_command
from musegen.runtime.threads import describe_threads


def write_report(
    settings: dict[str, Any], model: Model, data: Any, trainer: pl.Trainer, started: float
) -> Path:
    """Write what the folder of a finished run does not tell yet, and then its page.

    run.json holds what was trained, on what and for how long (`started`: `time.time()` at the
    start); music.json the metrics of the samples beside the training pieces' (see `compare`),
    where the data is music.
    """
    run_dir = Path(settings["run_dir"])
    write_json(run_dir / FACTS, _facts(settings, model, data, trainer, started))
    paths = sorted((run_dir / "samples").glob("*.mid"))
    if paths and (training := data.training_notes()):
        metrics = compare([read_notes(path) for path in paths], training, data.beat)
        write_json(run_dir / MUSIC, metrics)
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
    """The commit of the clone that this runs from; None where it is no clone, or git is not."""
    here = Path(__file__).parent
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=here, capture_output=True, text=True, check=True, timeout=10,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
