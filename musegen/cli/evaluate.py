"""The test metrics of a run: `musegen evaluate run=<run folder or checkpoint>`.

Settings of `data`, `assess` and `trainer` can be added, e.g. `data.root=DIR assess.seed=1`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from musegen.cli import console
from musegen.cli.usage import Section, help_requested, print_usage
from musegen.config.instantiation import build_data
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.config.runs import settings_beside
from musegen.config.signatures import accepts_setting
from musegen.config.typed import merge_typed
from musegen.errors import PairingError, UserError
from musegen.models import MODELS, Model
from musegen.models.base import import_path
from musegen.runtime.atomic import write_json
from musegen.sharing.folder import read_config
from musegen.sharing.locate import load, load_located, locate, output_folder, own_folder
from musegen.training.testing import all_test_metrics, format_test_table
from musegen.training.trainer import one_device

SPLIT = "split.json"
CALL = "evaluate run=<run folder or checkpoint> [data=NAME] [data.root=DIR] [assess.NAME=value]"
EXAMPLES = (
    "evaluate run=runs/mozart",
    "evaluate run=runs/mozart data=midi_folder data.root=other/midi",
    "evaluate run=runs/jsb assess.ais_steps=100",
)


def evaluate(run: Path, overrides: list[str]) -> dict[str, float]:
    """Compute the test metrics of a run's best checkpoint, on its own data or on other data.

    - run: a run folder or a checkpoint, a pretrained model, or hf:USER/NAME.
    - overrides: settings of `data`, `assess` and `trainer`.

    Data modules that take a codec get the checkpoint's, so that the classes are the same. The
    test runs in one process, even if the training used several. Raises `PairingError` for data of
    another kind or size, `UserError` for other settings.
    """
    for override in overrides:
        if re.split("[.=]", override)[0] not in ("data", "assess", "trainer"):
            raise UserError(
                f"{override}: a trained run keeps this setting; data.*, assess.* and trainer.* can "
                "be set"
            )
    checkpoint = locate(run)
    model = load_located(checkpoint)
    settings = run_settings(checkpoint, model, overrides)
    data = run_data(settings, checkpoint, model)
    metrics = all_test_metrics(model, data, settings)
    # The test.json of a shared model stays: its card shows these metrics.
    name = "evaluation.json" if overrides or checkpoint.is_dir() else "test.json"
    target = (own_folder(run) or output_folder(run, "evaluation")) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    print(format_test_table(metrics, target))
    write_json(target, metrics)
    print(f"written to {target}")
    return metrics


def run_settings(checkpoint: Path, model: Model, overrides: list[str]) -> dict[str, Any]:
    """The resolved config of the test: the run's own, or that of the data in `overrides`."""
    if any(o.startswith("data=") for o in overrides):
        cfg = compose_config([_model_choice(model), f"run_dir={checkpoint.parent}", *overrides])
        settings = resolve_config(cfg)
    elif checkpoint.is_dir():
        cfg = compose_config([_model_choice(model), f"run_dir={checkpoint}"])
        saved = read_config(checkpoint)
        for key in ("data", "assess", "seed"):
            OmegaConf.update(cfg, key, saved[key], merge=False)
        merge_typed(cfg, overrides)
        settings = resolve_config(cfg)
    else:
        # A test needs neither loggers nor callbacks, and those of an older version may have been
        # renamed.
        saved = settings_beside(checkpoint) | {"logger": {}, "callbacks": {}}
        saved.pop("overrides", None)
        cfg = OmegaConf.create(saved)
        merge_typed(cfg, overrides)
        settings = resolve_config(cfg)
    settings["trainer"] = one_device(settings["trainer"])
    return settings


def _model_choice(model: Model) -> str:
    """The override that chooses the model's class."""
    in_package = type(model).__module__.startswith("musegen.")
    return f"model={model.name}" if in_package else f"model._target_={import_path(type(model))}"


def run_data(settings: dict[str, Any], checkpoint: Path, model: Model) -> Any:
    """The data module with its test split. Raises `PairingError` for a spec that differs."""
    settings["data"].pop("codec", None)
    takes_codec = accepts_setting(settings["data"], "codec") and model.codec is not None
    data = build_data(settings, **({"codec": model.codec} if takes_codec else {}))
    if data.spec != model.spec:
        raise PairingError(
            f"{checkpoint} was trained on {model.spec}, but this data is {data.spec}"
        )
    data.keep_split(checkpoint / SPLIT if checkpoint.is_dir() else checkpoint.parent.parent / SPLIT)
    data.prepare_data()
    data.setup("test")
    if data.split_changes:
        print(data.split_changes)
    return data


def print_help(runs: list[str]) -> None:
    """The settings, with those of `assess` of the run's model, or of every model."""
    models = [type(load(run)) for run in runs] or MODELS.values()
    sections = [
        Section(f"settings of {model.name}", model.assess, prefix="assess.", without=("data",))
        for model in models
    ]
    settings = Section("settings", evaluate, without=("overrides",))
    print_usage(CALL, __doc__ or "", settings, *sections, examples=EXAMPLES)


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        arguments = sys.argv[1:]
        runs = [a.removeprefix("run=") for a in arguments if a.startswith("run=")]
        if help_requested(arguments):
            print_help(runs)
        if len(runs) != 1:
            raise UserError(f"which run? musegen {CALL}")
        evaluate(Path(runs[0]).expanduser(), [a for a in arguments if not a.startswith("run=")])


if __name__ == "__main__":
    main()
