"""The metrics of the test split: a pass over its batches, what no pass gives, and the baselines."""

from __future__ import annotations

from typing import Any

from musegen.baselines.by_spec import baselines, with_baselines
from musegen.config.instantiation import build_trainer
from musegen.models import Model
from musegen.training.callbacks.training_progress import TrainingProgress


def all_test_metrics(model: Model, data: Any, settings: dict[str, Any]) -> dict[str, float]:
    """Figures of the model over the test split, by name."""
    return run_test_pass(model, data, settings) | extra_metrics(model, data, settings)


def run_test_pass(model: Model, data: Any, settings: dict[str, Any]) -> dict[str, float]:
    """Those that a pass over its batches gives; the model is left on the device of the pass."""
    trainer = build_trainer(settings, bare=True, callbacks=[TrainingProgress()])
    trainer.test(model, datamodule=data, verbose=False)
    model.to(trainer.strategy.root_device)  # which Lightning has taken it off
    return {k.removeprefix("test/"): float(v) for k, v in trainer.callback_metrics.items()}


def extra_metrics(model: Model, data: Any, settings: dict[str, Any]) -> dict[str, float]:
    """Those that no pass gives: the model's own, and what the baselines reach."""
    metrics = model.assess(data, **settings["assess"])
    # Baselines are of the test split, and beside another's metrics they would mislead.
    return metrics | (baselines(data) if settings["assess"].get("split", "test") == "test" else {})


def format_test_table(metrics: dict[str, float]) -> str:
    """The metrics as an aligned table, the baselines' below the model's."""
    rows = [
        (f"    {name}" if baseline else f"  {name}", metrics[name])
        for name, _, baseline in with_baselines(metrics)
    ]
    width = max((len(name) for name, _ in rows), default=0)
    heading = "test" + (" (indented: baselines)" if any(n[2] == " " for n, _ in rows) else "")
    return "\n".join([heading, *(f"{name:<{width}}  {value:.6f}" for name, value in rows)])
