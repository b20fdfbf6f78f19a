"""The test metrics of a run: `musegen evaluate run=<run folder or checkpoint>`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from omegaconf import OmegaConf

from musegen.cli import console
from musegen.config.instantiation import build_data
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.config.runs import settings_beside
from musegen.config.signatures import accepts_setting
from musegen.errors import PairingError, UserError
from musegen.models import load_model
from musegen.runtime.atomic import write_json
from musegen.training.checkpoint_files import find_checkpoint
from musegen.training.testing import all_test_metrics, format_test_table
from musegen.training.trainer import one_device


def evaluate(run: Path, overrides: list[str]) -> dict[str, float]:
    """Test a run's best checkpoint on its own data, or on data named by overrides.

    Data that take a codec take the checkpoint's, so that metrics are of the same classes. It is
    done in one process, whatever the training was done in. Raises `PairingError` for data of
    another kind or size, `UserError` for a setting that belongs to the training.
    """
    for override in overrides:
        if re.split("[.=]", override)[0] not in ("data", "assess", "trainer"):
            raise UserError(f"{override}: a run keeps it; data.*, assess.*, trainer.* can be set")
    checkpoint = find_checkpoint(run)
    model = load_model(checkpoint)
    if any(o.startswith("data=") for o in overrides):
        cfg = compose_config([f"model={model.name}", f"run_dir={checkpoint.parent}", *overrides])
        settings = resolve_config(cfg)
    else:
        # An evaluation needs neither loggers nor callbacks, and those of an older version may
        # have been renamed.
        saved = settings_beside(checkpoint) | {"logger": {}, "callbacks": {}}
        saved.pop("overrides", None)
        cfg = OmegaConf.create(saved)
        cfg.merge_with_dotlist(overrides)
        settings = resolve_config(cfg)
    settings["trainer"] = one_device(settings["trainer"])  # a run of many nodes, on a laptop
    settings["data"].pop("codec", None)
    takes_codec = accepts_setting(settings["data"], "codec") and model.codec is not None
    data = build_data(settings, **({"codec": model.codec} if takes_codec else {}))
    if data.spec != model.spec:
        raise PairingError(f"{checkpoint} has learned {model.spec}, but these data are {data.spec}")
    data.keep_split(checkpoint.parent.parent / "split.json")
    data.prepare_data()
    data.setup("test")
    if data.split_changes:
        print(data.split_changes)
    metrics = all_test_metrics(model, data, settings)
    print(format_test_table(metrics))
    name = "evaluation.json" if overrides else "test.json"
    target = (run if run.is_dir() else run.parent) / name
    write_json(target, metrics)
    print(f"written to {target}")
    return metrics


def main() -> None:
    console.quiet()
    with console.one_line_errors():
        arguments = sys.argv[1:]
        runs = [a.removeprefix("run=") for a in arguments if a.startswith("run=")]
        if len(runs) != 1:
            raise UserError(
                "which run? musegen evaluate run=<run folder or checkpoint> "
                "[data=NAME] [data.root=DIR]"
            )
        evaluate(Path(runs[0]), [a for a in arguments if not a.startswith("run=")])


if __name__ == "__main__":
    main()
