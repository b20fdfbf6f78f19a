"""One run, in the order of events: compose, build, fit, test the best, sample, report."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import hydra
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig, OmegaConf

from musegen import build
from musegen.cli import one_line_errors, quiet
from musegen.evaluate import test_figures, test_table
from musegen.loggers import finishing
from musegen.memory import keep_freed_memory
from musegen.models import Model, load_model
from musegen.render.files import write_samples
from musegen.report import conclude


@hydra.main(version_base="1.3", config_path=str(build.CONF), config_name="train")
def train(cfg: DictConfig) -> float:
    """Train, test and sample; returns the best monitored score, for sweeps."""
    with one_line_errors():
        return run(build.completed(cfg))


def run(settings: dict[str, Any]) -> float:
    """The whole story, from a completed config."""
    keep_freed_memory()
    trainer = build.build_trainer(settings)
    with finishing(trainer.loggers):
        return tell(settings, trainer)


def tell(settings: dict[str, Any], trainer: pl.Trainer) -> float:
    """Data and model, fit, test, samples, report."""
    began = time.time()
    run_dir = Path(settings["run_dir"])
    pl.seed_everything(settings["seed"], workers=True, verbose=False)
    data = build.build_data(settings)
    model = build.build_model(settings, data)  # before any data work: it may refuse its settings
    data.prepare_data()
    data.setup()
    if trainer.is_global_zero:
        run_dir.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(settings), run_dir / "config.yaml")
        print(banner(trainer, model, data, run_dir), flush=True)
    for logger in trainer.loggers:
        logger.log_hyperparams(settings)

    trainer.fit(model, datamodule=data)

    checkpoint = getattr(trainer.checkpoint_callback, "best_model_path", "") or ""
    score = getattr(trainer.checkpoint_callback, "best_model_score", None)
    if checkpoint:
        model = load_model(checkpoint)
    figures = test_figures(model, data, settings)
    for logger in trainer.loggers:
        logger.log_metrics({f"test/{k}": v for k, v in figures.items()}, trainer.global_step)
        logger.save()
    if trainer.is_global_zero:
        print(test_table(figures))
        (run_dir / "test.json").write_text(json.dumps(figures, indent=2) + "\n")
        if settings["sample"] is not None:
            samples = model.generate(**settings["sample"])
            for path in write_samples(model.spec, samples, run_dir / "samples"):
                print(f"sample {path}")
        print(f"report {conclude(settings, model, data, trainer, began)}")
    return float(score) if score is not None else float("nan")


def banner(trainer: pl.Trainer, model: Model, data: Any, run_dir: Path) -> str:
    """What is about to be trained, on what, where."""
    weights = sum(p.numel() for p in model.parameters())
    device = str(trainer.strategy.root_device)
    if trainer.world_size > 1:
        device += f" and {trainer.world_size - 1} more"
    elif device == "cpu":
        device += f", {torch.get_num_threads()} threads"
    lines = {
        "model": f"{model.name}, {weights:,} weights",
        "data": f"{type(data).__name__}: {data.describe()}",
        "device": device,
        "precision": trainer.precision,
        "folder": run_dir,
    }
    return "\n".join(f"{name:<9}  {said}" for name, said in lines.items())


def main() -> None:
    """`python train.py …` and `musegen-train …`."""
    quiet()
    sys.argv[1:] = build.free_overrides(sys.argv[1:])
    # Hydra then raises instead of printing its own version of the error.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    with one_line_errors():
        train()
