"""The metrics of the test split: from a pass over its batches, from `assess`, and baselines."""

from __future__ import annotations

from typing import Any

from musegen.baselines.by_spec import baselines, with_baselines
from musegen.config.instantiation import build_trainer
from musegen.models import Model
from musegen.training.callbacks.training_progress import TrainingProgress


def all_test_metrics(model: Model, data: Any, settings: dict[str, Any]) -> dict[str, float]:
    """All metrics of the test split, by name."""
    return run_test_pass(model, data, settings) | extra_metrics(model, data, settings)


def run_test_pass(model: Model, data: Any, settings: dict[str, Any]) -> dict[str, float]:
    """The metrics from a pass over the test batches; leaves the model on the trainer's device."""
    trainer = build_trainer(settings, bare=True, callbacks=[TrainingProgress()])
    trainer.test(model, datamodule=data, verbose=False)
    model.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU
    return {k.removeprefix("test/"): float(v) for k, v in trainer.callback_metrics.items()}


def extra_metrics(model: Model, data: Any, settings: dict[str, Any]) -> dict[str, float]:
    """The metrics that need more than a pass: the model's `assess`, and the baselines."""
    metrics = model.assess(data, **settings["assess"])
    # Baselines are computed on the test split; beside metrics of another split they mislead.
    return metrics | (baselines(data) if settings["assess"].get("split", "test") == "test" else {})


def format_test_table(metrics: dict[str, float]) -> str:
    """The metrics as an aligned table, each baseline below the metric that it belongs to."""
    rows = [
        (f"    {name}" if baseline else f"  {name}", metrics[name])
        for name, _, baseline in with_baselines(metrics)
    ]
    width = max((len(name) for name, _ in rows), default=0)
    heading = "test" + (" (indented: baselines)" if any(name[2] == " " for name, _ in rows) else "")
    return "\n".join([heading, *(f"{name:<{width}}  {value:.6f}" for name, value in rows)])
