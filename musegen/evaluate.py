"""The test figures of a run: `python -m musegen.evaluate run=<run folder or checkpoint>`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from musegen import build, cli
from musegen.atomic import write_json
from musegen.callbacks.progress import TrainingProgress
from musegen.contracts import PairingError, UserError
from musegen.metrics.baselines import baselines, in_order
from musegen.models import Model, load_model
from musegen.trainer import one_device


def test_figures(model: Model, data: Any, settings: dict[str, Any]) -> dict[str, float]:
    """Figures of the model over the test split, by name."""
    return test_pass(model, data, settings) | beside(model, data, settings)


def test_pass(model: Model, data: Any, settings: dict[str, Any]) -> dict[str, float]:
    """Those that a pass over its batches gives; the model is left on the device of the pass."""
    trainer = build.build_trainer(settings, bare=True, callbacks=[TrainingProgress()])
    trainer.test(model, datamodule=data, verbose=False)
    model.to(trainer.strategy.root_device)  # which Lightning has taken it off
    return {k.removeprefix("test/"): float(v) for k, v in trainer.callback_metrics.items()}


def beside(model: Model, data: Any, settings: dict[str, Any]) -> dict[str, float]:
    """Those that no pass gives: the model's own, and what the baselines reach."""
    figures = model.assess(data, **settings["assess"])
    # Baselines are of the test split, and beside another's figures they would mislead.
    return figures | (baselines(data) if settings["assess"].get("split", "test") == "test" else {})


def test_table(figures: dict[str, float]) -> str:
    """The figures as an aligned table, the baselines' below the model's."""
    rows = [
        (f"    {name}" if baseline else f"  {name}", figures[name])
        for name, _, baseline in in_order(figures)
    ]
    width = max((len(name) for name, _ in rows), default=0)
    heading = "test" + (" (indented: baselines)" if any(n[2] == " " for n, _ in rows) else "")
    return "\n".join([heading, *(f"{name:<{width}}  {value:.6f}" for name, value in rows)])


def find_checkpoint(run: Path) -> Path:
    """The checkpoint that `run` names: itself, or the best (else the last) of a run folder."""
    if run.is_dir():
        for name in ("best.ckpt", "last.ckpt"):
            if (run / "checkpoints" / name).exists():
                return run / "checkpoints" / name
        raise UserError(f"run={run}: no checkpoints/best.ckpt or last.ckpt in this folder")
    if not run.exists():
        raise UserError(f"run={run}: no such run folder or checkpoint")
    return run


def run_settings(checkpoint: Path) -> dict[str, Any]:
    """The config that was saved beside a checkpoint of a run folder."""
    try:
        return build.run_config(checkpoint.parent.parent / "config.yaml")
    except UserError as e:
        raise UserError(f"{e}; name the data with data=NAME") from e


def evaluate(run: Path, overrides: list[str]) -> dict[str, float]:
    """Test a run's best checkpoint on its own data, or on data named by overrides.

    Data that take a codec take the checkpoint's, so that figures are of the same classes. It is
    done in one process, whatever the training was done in. Raises `PairingError` for data of
    another kind or size, `UserError` for a setting that belongs to the training.
    """
    for override in overrides:
        if re.split("[.=]", override)[0] not in ("data", "assess", "trainer"):
            raise UserError(f"{override}: a run keeps it; data.*, assess.*, trainer.* can be set")
    checkpoint = find_checkpoint(run)
    model = load_model(checkpoint)
    if any(o.startswith("data=") for o in overrides):
        cfg = build.composed([f"model={model.name}", f"run_dir={checkpoint.parent}", *overrides])
        settings = build.completed(cfg)
    else:
        # An evaluation needs neither loggers nor callbacks, and those of an older version may
        # have been renamed.
        saved = run_settings(checkpoint) | {"logger": {}, "callbacks": {}}
        saved.pop("typed", None)
        cfg = OmegaConf.create(saved)
        cfg.merge_with_dotlist(overrides)
        settings = build.completed(cfg)
    settings["trainer"] = one_device(settings["trainer"])  # a run of many nodes, on a laptop
    settings["data"].pop("codec", None)
    takes_codec = build.accepts(settings["data"], "codec") and model.codec is not None
    data = build.build_data(settings, **({"codec": model.codec} if takes_codec else {}))
    if data.spec != model.spec:
        raise PairingError(f"{checkpoint} has learned {model.spec}, but these data are {data.spec}")
    data.keep_split(checkpoint.parent.parent / "split.json")
    data.prepare_data()
    data.setup("test")
    if data.split_changes:
        print(data.split_changes)
    figures = test_figures(model, data, settings)
    print(test_table(figures))
    name = "evaluation.json" if overrides else "test.json"
    target = (run if run.is_dir() else run.parent) / name
    write_json(target, figures)
    print(f"written to {target}")
    return figures


def main() -> None:
    cli.quiet()
    with cli.one_line_errors():
        arguments = sys.argv[1:]
        runs = [a.removeprefix("run=") for a in arguments if a.startswith("run=")]
        if len(runs) != 1:
            raise UserError(
                "which run? python -m musegen.evaluate run=<run folder or checkpoint> "
                "[data=NAME] [data.root=DIR]"
            )
        evaluate(Path(runs[0]), [a for a in arguments if not a.startswith("run=")])


if __name__ == "__main__":
    main()
