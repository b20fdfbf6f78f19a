"""A search for settings: `musegen sweep trials=20 [out=DIR] key=value key=choice(…) …`.

What to search is written as in Hydra's sweeps: `model.cell=lstm,gru` or `choice(lstm,gru)`,
`model.hidden=int(interval(64,512))`, `optimizer.lr=tag(log,interval(1e-4,1e-1))`,
`model.layers=range(1,4)`. Optuna proposes; each trial is a run in a folder of its own below `out`,
where `study.db` keeps what was tried: the same command goes on where it was stopped. A trial that
stands behind the median of the others at the same epoch is pruned (`prune=false` lets all run).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from musegen.cli import console, train
from musegen.config.instantiation import build_trainer
from musegen.config.overrides import compose_config, quote_override
from musegen.config.resolve import resolve_config
from musegen.config.validation import check_settings
from musegen.errors import UserError
from musegen.runtime import launch

try:
    import optuna
except ModuleNotFoundError as e:
    raise SystemExit("musegen: musegen.cli.sweep needs Optuna: pip install 'musegen[sweep]'") from e

SETTINGS: dict[str, Any] = {"trials": 20, "out": "runs/study", "prune": True, "seed": 1}


class Pruning(pl.Callback):
    """Tells the study each epoch's score, and ends a trial that is behind.

    Raises `optuna.TrialPruned`.
    """

    def __init__(self, trial: optuna.Trial, monitor: str) -> None:
        self.trial, self.monitor = trial, monitor

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        score = trainer.callback_metrics.get(self.monitor)
        if score is None or trainer.sanity_checking:
            return
        self.trial.report(float(score), trainer.current_epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"behind the median in epoch {trainer.current_epoch + 1}")


def suggested(trial: optuna.Trial, override: Override) -> str:
    """What to type for one key of this trial."""
    key = override.key_or_group
    space: Any = override.value()
    value: Any
    if override.is_interval_sweep():
        suggest = trial.suggest_int if isinstance(space.start, int) else trial.suggest_float
        value = suggest(key, space.start, space.end, log="log" in space.tags)
    elif override.is_range_sweep():
        last = space.stop - space.step  # as Python's range: the end is not in it
        value = trial.suggest_int(key, space.start, last, step=space.step)
    else:
        value = trial.suggest_categorical(key, [str(choice) for choice in space.list])
    return f"{key}={value}"


def search(typed: list[str], trials: int, out: Path, prune: bool, seed: int) -> optuna.Study:
    """Run trials until so many are finished in all.

    Raises `UserError` where there is nothing to search, and for settings that no run would take.
    """
    if trials < 1:
        raise UserError(f"trials={trials}: must be at least 1")
    typed = [quote_override(t) for t in typed]
    parsed = OverridesParser.create().parse_overrides(typed)
    spaces = [o for o in parsed if o.is_sweep_override()]
    fixed = [t for t, o in zip(typed, parsed, strict=True) if not o.is_sweep_override()]
    if not spaces:
        raise UserError("nothing to search: give a key several values, e.g. model.hidden=64,128")
    # The first values of all, so that a misspelt key ends the search before it begins.
    first = optuna.create_study().ask()
    plain = resolve_config(
        compose_config([*fixed, *(suggested(first, o) for o in spaces), f"run_dir={out}"])
    )
    if prune and launch.num_processes(build_trainer(plain, bare=True)) > 1:
        raise UserError("trials of several processes cannot be pruned: add prune=false")
    out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="musegen",
        storage=f"sqlite:///{out / 'study.db'}",
        direction="minimize" if plain["mode"] == "min" else "maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    for left in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.enqueue_trial(left.params)  # what a search that was stopped was at
        study.tell(left.number, state=optuna.trial.TrialState.FAIL)

    def objective(trial: optuna.Trial) -> float:
        chosen = [suggested(trial, o) for o in spaces]
        print(f"trial {trial.number}: {' '.join(chosen)}", flush=True)
        folder = out / str(trial.number)
        settings = resolve_config(compose_config([*fixed, *chosen, f"run_dir={folder}"]))
        settings["overrides"] = [*fixed, *chosen]
        watching = [Pruning(trial, settings["monitor"])] if prune else []
        return train.run(settings, watching)

    done = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    while (more := trials - len(study.get_trials(deepcopy=False, states=done))) > 0:
        study.optimize(objective, n_trials=more)
    return study


def main() -> None:
    console.quiet()
    with console.one_line_errors():
        own = [a for a in sys.argv[1:] if a.partition("=")[0] in SETTINGS]
        typed = [a for a in sys.argv[1:] if a not in own]
        given = check_settings(search, SETTINGS | console.key_values(own), "sweep", {"typed"})
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = search(typed, **given)
        states = [t.state.name.lower() for t in study.trials]
        counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
        if "complete" not in states:
            raise UserError(f"no trial came to its end ({counts}); add prune=false")
        best = given["out"] / str(study.best_trial.number)
        print(f"{counts}; best {study.best_value:.6f} in {best}")
        print(" ".join(f"{key}={value}" for key, value in study.best_params.items()))


if __name__ == "__main__":
    main()
