"""The cost of samples, loggers and progress: their fraction of the time of `fit`, in one run.

    PYTHONPATH=. python benchmarks/tracking_cost.py model=lstm_midi data=mozart \
        "logger=[csv,tensorboard,wandb]" logger.wandb.mode=offline

Takes the overrides of train.py. The start of the loggers and the pictures after the last epoch are
included. The test and the final samples come after `fit` and are not.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import wraps
from time import perf_counter
from typing import Any

import pytorch_lightning as pl

from musegen.cli import console
from musegen.config.instantiation import build_data, build_model, build_trainer
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.training.callbacks.samples import Samples
from musegen.training.callbacks.training_progress import TrainingProgress
from musegen.training.loggers.media import SupportsMedia
from musegen.training.loggers.wandb_logger import finishing


class Meter:
    """Seconds spent in watched methods; a nested call counts for the outer method."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.inside = False

    def watch(self, what: str, thing: Any, *names: str) -> None:
        for name in names:
            if hasattr(thing, name):
                setattr(thing, name, self._timed(what, getattr(thing, name)))

    def _timed(self, what: str, call: Callable) -> Callable:
        @wraps(call)
        def timed(*arguments: Any, **settings: Any) -> Any:
            if self.inside:
                return call(*arguments, **settings)
            self.inside, started = True, perf_counter()
            try:
                return call(*arguments, **settings)
            finally:
                self.seconds[what] += perf_counter() - started
                self.inside = False

        return timed


def main() -> None:
    console.quiet()
    with tempfile.TemporaryDirectory() as folder, console.one_line_errors():
        settings = resolve_config(compose_config([*sys.argv[1:], f"run_dir={folder}"]))
        trainer = build_trainer(settings)
        with finishing(trainer.loggers):
            meter = Meter()
            for callback in trainer.callbacks:
                if isinstance(callback, Samples):
                    meter.watch("samples", callback, "on_train_epoch_end")
                    meter.watch("the end", callback, "on_fit_end")
                if isinstance(callback, TrainingProgress):
                    hooks = ("on_train_batch_end", "on_validation_batch_end", "on_train_epoch_end")
                    meter.watch("progress", callback, *hooks)
            for logger in trainer.loggers:
                media = ("log_media",) if isinstance(logger, SupportsMedia) else ()
                calls = ("log_hyperparams", "log_metrics", "save", "finalize", *media)
                meter.watch("logging", logger, *calls)
            pl.seed_everything(settings["seed"], verbose=False)
            data = build_data(settings)
            model = build_model(settings, data)
            data.prepare_data()
            data.setup()
            started = perf_counter()
            for logger in trainer.loggers:
                logger.log_hyperparams(settings)
            trainer.fit(model, datamodule=data)
            total = perf_counter() - started
    for what, seconds in meter.seconds.items():
        print(f"{what:<8}  {seconds:7.2f} s  {seconds / total:6.2%}")
    print(f"{'fit':<8}  {total:7.2f} s")


if __name__ == "__main__":
    main()
