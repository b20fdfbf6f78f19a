"""Settings that are right by themselves and wrong together, refused before any work."""

from __future__ import annotations

from typing import Any

from musegen.errors import UserError, unknown_name

LIKELIHOOD = [
    "val/log_likelihood",
    "val/log_z",
    "val/log_z_error",
    "val/effective_chains",
    "val/log_likelihood_raise",
    "val/log_z_reverse",
    "val/log_z_reverse_error",
]
SCORES = {
    "char_rnn": ["train/loss", "val/nll", "val/bpc", "val/perplexity", "val/accuracy"],
    "lstm_midi": [
        "train/loss",
        "train/note",
        "train/velocity",
        "train/time",
        "val/nll",
        "val/note",
        "val/velocity",
        "val/time",
        "val/note_accuracy",
        "val/velocity_accuracy",
        "val/time_accuracy",
    ],
    "rbm": [
        "train/loss",
        "train/pseudo_likelihood",
        "train/reconstruction",
        "val/pseudo_likelihood",
        "val/reconstruction",
        "val/free_energy",
        "val/free_energy_gap",
    ],
    "rnn_rbm": ["train/loss", "train/monitor", "val/monitor", "val/log_likelihood", "val/accuracy"],
}
"""The scores that each model logs. Those of other models are not checked."""


def check_consistency(settings: dict[str, Any], model: str) -> None:
    """Raise `UserError` for settings of a resolved config that contradict one another."""
    if model in SCORES:
        monitored = {"monitor": settings["monitor"]}
        for name, node in settings["callbacks"].items():
            monitored[f"callbacks.{name}.monitor"] = (node or {}).get("monitor")
        for where, score in monitored.items():
            known = scores(settings, model)
            if score is not None and score not in known:
                raise unknown_name(f"{where}={score}", score, known, f"score of this {model}")
    _check_schedule(settings["optimizer"], settings["trainer"], settings["monitor"])


def scores(settings: dict[str, Any], model: str) -> list[str]:
    """The scores that this run will log, as far as its model and callbacks are musegen's."""
    known = list(SCORES[model])
    if settings["data"]["_target_"].endswith(".GrammarStrings"):
        known.append("val/capacity")
    for composer in settings["data"].get("composers") or ():
        known += [f"{s}/{composer}" for s in SCORES[model] if s.startswith("val/")]
    if model == "rbm" and settings["callbacks"].get("likelihood"):
        known += LIKELIHOOD
    return known


def _check_schedule(optimizer: dict[str, Any], trainer: dict[str, Any], monitor: str) -> None:
    schedule = optimizer.get("schedule")
    every = trainer.get("check_val_every_n_epoch", 1)
    if schedule == "plateau" and monitor.startswith("val/") and every != 1:
        raise UserError(
            f"optimizer.schedule=plateau needs {monitor} after every epoch, but "
            f"trainer.check_val_every_n_epoch={'null' if every is None else every}; set it to 1, "
            "or use optimizer.schedule=cosine or none"
        )
    endless = trainer.get("max_epochs") == -1 and trainer.get("max_steps") in (None, -1)
    if schedule == "cosine" and endless:
        raise UserError(
            "optimizer.schedule=cosine needs the number of steps, but trainer.max_epochs=-1; set "
            "trainer.max_epochs or trainer.max_steps, or optimizer.schedule=none"
        )
