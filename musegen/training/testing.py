"""The metrics of the test split: from a pass over its batches, from `assess`, and baselines."""

from __future__ import annotations

from pathlib import Path
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


def format_test_table(metrics: dict[str, float], file: Path) -> str:
    """The metrics as an aligned table, each baseline below the metric that it belongs to.

    Metrics of single labels (`bpc/Dutch`) would fill the screen; `file`, which has all metrics,
    is named instead.
    """
    rows = [
        (f"    {name}" if baseline else f"  {name}", _rounded(metrics[name]))
        for name, _, baseline in with_baselines(name for name in metrics if "/" not in name)
    ]
    width = max((len(name) for name, _ in rows), default=0)
    before_point = max((len(value.partition(".")[0]) for _, value in rows), default=0)
    heading = "test" + (" (indented: baselines)" if any(name[2] == " " for name, _ in rows) else "")
    lines = [heading]
    for name, value in rows:
        indent = before_point - len(value.partition(".")[0])
        lines.append(f"{name:<{width}}  {' ' * indent}{value}")
    labels = {name.partition("/")[2] for name in metrics if "/" in name}
    if labels:
        lines.append(f"the metrics of each of {len(labels)} labels are in {file}")
    return "\n".join(lines)


def _rounded(value: float) -> str:
    """Four significant digits; whole numbers from 10,000 on."""
    return f"{value:.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
