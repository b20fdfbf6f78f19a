"""Settings that are right by themselves and wrong together, refused before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from musegen.config.signatures import target_of
from musegen.errors import UserError, unknown_name
from musegen.models import Model

OUR_PACKAGES = ("musegen", "pytorch_lightning")
"""Packages whose callbacks log no score that they do not state."""


def check_consistency(settings: dict[str, Any], model: type[Model]) -> None:
    """Raise `UserError` for settings of a resolved config that contradict one another."""
    if states_scores(model) and all_callbacks_known(settings):
        check_monitors(settings, model, scores(settings, model))
    _check_schedule(settings["optimizer"], settings["trainer"], settings["monitor"])


def check_monitors(
    settings: dict[str, Any], model: type[Model], known: Sequence[str], only: str = ""
) -> None:
    """Raise `UserError` for a monitored score, with a name that starts with `only`, that is not
    among the `known` ones."""
    monitored = {"monitor": settings["monitor"]}
    for name, node in settings["callbacks"].items():
        monitored[f"callbacks.{name}.monitor"] = (node or {}).get("monitor")
    for where, score in monitored.items():
        if score is not None and score.startswith(only) and score not in known:
            raise unknown_name(f"{where}={score}", score, known, f"score of this {model.name}")


def states_scores(model: type[Model]) -> bool:
    """Whether a class states its scores itself. A subclass outside musegen may change them."""
    return model.__module__.split(".")[0] == "musegen" or vars(model).get("scores") is not None


def all_callbacks_known(settings: dict[str, Any]) -> bool:
    """Whether all callbacks are musegen's or Lightning's. Others may log any score."""
    return all(c.__module__.split(".")[0] in OUR_PACKAGES for c, _ in _callbacks(settings))


def scores(settings: dict[str, Any], model: type[Model]) -> list[str]:
    """The scores that a run with these settings logs, as its model and callbacks state them."""
    validation = [*(model.scores or ())]
    if any(c.__name__ == "GrammarStrings" for c in target_of(settings["data"], "data").__mro__):
        validation.append("capacity")
    for composer in settings["data"].get("composers") or ():
        validation += [f"{name}/{composer}" for name in model.scores or ()]
    for callback, node in _callbacks(settings):
        validation += getattr(callback, "scores", ()) if node.get("every") else ()
    training = ["loss", *model.train_scores]
    return [*(f"train/{name}" for name in training), *(f"val/{name}" for name in validation)]


def _callbacks(settings: dict[str, Any]) -> list[tuple[Any, dict[str, Any]]]:
    """The class and the settings of each callback."""
    nodes = settings["callbacks"]
    return [(target_of(node, f"callbacks.{k}"), node) for k, node in nodes.items() if node]


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
