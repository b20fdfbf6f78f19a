"""A search for settings: `musegen sweep trials=20 [out=DIR] key=value key=choice(…) …`.

Search spaces are written as in Hydra's sweeps: `model.cell=lstm,gru` or `choice(lstm,gru)`,
`model.hidden=int(interval(64,512))`, `optimizer.lr=tag(log,interval(1e-4,1e-1))`,
`model.layers=range(1,4)`. Optuna chooses the values. Each trial is a run in its own folder in
`out`, where `study.db` keeps all trials: the same command resumes a stopped search. A trial that
is worse than the median of the others at the same epoch is ended (not with `prune=false`).
"""

from __future__ import annotations

import math
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from musegen.cli import console, train
from musegen.cli.usage import Section, help_requested, print_usage
from musegen.config.instantiation import build_trainer
from musegen.config.overrides import compose_config, quote_override, with_search_path
from musegen.config.resolve import resolve_config
from musegen.config.typed import absolute_overrides, read_typed
from musegen.config.validation import check_settings
from musegen.constraints import PositiveInt, Seed, check_arguments
from musegen.errors import UserError
from musegen.runtime import launch

try:
    import optuna
except ModuleNotFoundError as e:
    raise SystemExit("musegen: musegen.cli.sweep needs Optuna: pip install 'musegen[sweep]'") from e

SETTINGS = ("trials", "out", "prune", "seed")
OUT = Path("runs/study")
CALL = "sweep [trials=20] [out=DIR] [prune=false] [seed=1] key=value key=choice(…) …"
EXAMPLES = (
    'sweep trials=20 data=jsb model=rnn_rbm "model.hidden=int(interval(64,512))"',
    "sweep out=runs/study model=char_rnn data=anbn model.cell=lstm,gru",
)
FINISHED = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)


class Pruning(pl.Callback):
    """Reports each epoch's score to the study, and ends a trial that is worse than the others.

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
    """The override `key=value` of one searched key in this trial.

    Raises `UserError` for a space that Optuna cannot draw from.
    """
    key = override.key_or_group
    try:
        return f"{key}={_suggest(trial, key, override)}"
    except ValueError as e:
        raise UserError(f"{override.input_line}: {e}") from e


def _suggest(trial: optuna.Trial, key: str, override: Override) -> Any:
    space: Any = override.value()
    if override.is_interval_sweep():
        suggest = trial.suggest_int if isinstance(space.start, int) else trial.suggest_float
        return suggest(key, space.start, space.end, log="log" in space.tags)
    if override.is_range_sweep():
        return _suggest_in_range(trial, key, space.start, space.stop, space.step)
    return trial.suggest_categorical(key, [str(choice) for choice in space.list])


def _suggest_in_range(
    trial: optuna.Trial, key: str, start: float, stop: float, step: float
) -> float:
    """One of start, start + step … before `stop`, as in Python's range."""
    first, end, by = (Decimal(str(x)) for x in (start, stop, step))  # 0.1 is a tenth here
    if by == 0 or (end - first) / by <= 0:
        raise ValueError("this range has no values")
    last = first + (math.ceil((end - first) / by) - 1) * by
    low, high = sorted((first, last))
    if all(isinstance(x, int) for x in (start, stop, step)):
        return trial.suggest_int(key, int(low), int(high), step=abs(int(by)))
    return round(trial.suggest_float(key, float(low), float(high), step=abs(float(by))), 12)


@check_arguments
def search(
    overrides: list[str],
    trials: PositiveInt = 20,
    out: Path = OUT,
    prune: bool = True,
    seed: Seed = 1,
) -> optuna.Study:
    """Run trials until the study has so many finished ones.

    - trials: the number of finished trials, those of earlier searches in `out` included.
    - out: the folder of the study and its runs.
    - prune: end trials that are worse than the median of the others at the same epoch.
    - seed: of Optuna's choices.

    Raises `UserError` if there is nothing to search, and for settings that a run would refuse.
    """
    fixed, spaces = _parse(overrides)
    # The first choice of every space: a misspelt key ends the search before it starts.
    first = optuna.create_study().ask()
    example = resolve_config(
        compose_config([*fixed, *(suggested(first, o) for o in spaces), f"run_dir={out}"])
    )
    if prune and launch.num_processes(build_trainer(example, bare=True)) > 1:
        raise UserError("trials of several processes cannot be pruned: add prune=false")
    if (example["callbacks"].get("checkpoint") or {}).get("monitor") is None:
        raise UserError(
            "nothing to compare: the runs keep no best score; add callbacks.checkpoint.monitor="
            f"{example['monitor']}"
        )
    study = _open_study(out, example["mode"], prune, seed)
    _check_same_search(study, out, overrides)

    def objective(trial: optuna.Trial) -> float:
        chosen = [suggested(trial, o) for o in spaces]
        print(f"trial {trial.number}: {' '.join(chosen)}", flush=True)
        folder = out / str(trial.number)
        settings = resolve_config(compose_config([*fixed, *chosen, f"run_dir={folder}"]))
        settings["overrides"] = absolute_overrides(settings, [*fixed, *chosen])
        callbacks = [Pruning(trial, settings["monitor"])] if prune else []
        score = train.run(settings, callbacks)
        if math.isnan(score):  # to Optuna this would be a failure, and no finished trial
            raise optuna.TrialPruned("the score is not a number")
        return score

    while (more := trials - len(study.get_trials(deepcopy=False, states=FINISHED))) > 0:
        study.optimize(objective, n_trials=more)
    return study


def _parse(overrides: list[str]) -> tuple[list[str], list[Override]]:
    """The overrides with one value, and the parsed overrides with several values."""
    quoted = [quote_override(o, sweep=True) for o in overrides]
    parsed = OverridesParser.create().parse_overrides(quoted)
    spaces = [p for p in parsed if p.is_sweep_override()]
    if not spaces:
        raise UserError("nothing to search: give a key several values, e.g. model.hidden=64,128")
    return [q for q, p in zip(quoted, parsed, strict=True) if not p.is_sweep_override()], spaces


def _open_study(out: Path, mode: str, prune: bool, seed: int) -> optuna.Study:
    """The study in `out`; trials that were stopped in an earlier search are tried again."""
    out.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name="musegen",
        storage=f"sqlite:///{out / 'study.db'}",
        direction="minimize" if mode == "min" else "maximize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner(),
        load_if_exists=True,
    )
    for stopped in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.enqueue_trial(stopped.params)
        study.tell(stopped.number, state=optuna.trial.TrialState.FAIL)
    return study


def _check_same_search(study: optuna.Study, out: Path, overrides: list[str]) -> None:
    """Raise `UserError` if the study in `out` was started with other overrides."""
    before = study.user_attrs.get("overrides")
    if before is None:
        study.set_user_attr("overrides", overrides)
    elif sorted(before) != sorted(overrides):
        changed = " ".join(sorted(set(before) ^ set(overrides)))
        raise UserError(
            f"out={out}: this folder holds another search ({changed}); choose another folder with "
            "out=DIR, or repeat that search's settings"
        )


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        if help_requested(sys.argv[1:]):
            print_usage(
                CALL,
                __doc__ or "",
                Section("settings", search, without=("overrides",)),
                examples=EXAMPLES,
            )
        own = [a for a in sys.argv[1:] if a.partition("=")[0] in SETTINGS]
        overrides = with_search_path([a for a in sys.argv[1:] if a not in own])
        given = check_settings(
            search, read_typed(search, console.key_values(own)), "sweep", {"overrides"}
        )
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # a warning has a traceback
        study = search(overrides, **given)
        states = [t.state.name.lower() for t in study.trials]
        counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states))
        if "complete" not in states:
            raise UserError(
                f"no trial was completed ({counts}): none ended with a score that is a "
                "number, or all were pruned, for which prune=false helps"
            )
        best = given.get("out", OUT) / str(study.best_trial.number)
        print(f"{counts}; best {study.best_value:.6f} in {best}")
        print(" ".join(f"{key}={value}" for key, value in study.best_params.items()))


if __name__ == "__main__":
    main()
