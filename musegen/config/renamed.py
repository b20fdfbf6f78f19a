"""Settings, values and classes that have a new name. The old name is refused with one line that
gives the new one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from musegen.errors import UserError

RENAMED_SETTINGS = {
    "data.teach": "data.loss_on",
    "model.heads": "model.attention_heads",  # of rnn_rbm; lstm_midi has another setting `heads`
    "model.span": "model.attention_span",
    "model.learn_start": "model.learn_initial_state",
    "model.rbm_rate": "model.rbm_lr_factor",
    "model.val_share": "model.val_fraction",
    "model.ngram_share": "model.ngram_weight",
    "model.held": "model.active_note_dim",
    **{f"{g}.temperatures": f"{g}.ais_steps" for g in ("sample", "preview", "generate", "assess")},
}
"""Old name → new name."""

_REPEATS = {"held": "sustain", "struck": "retrigger"}
RENAMED_VALUES: dict[str, dict[str, str]] = {
    "data.loss_on": {"every": "all"},
    "monitor": {"val/nats": "val/nll", "val/bits": "val/bpc"},
    **{f"{g}.repeats": _REPEATS for g in ("data", "sample", "preview", "generate")},
}
"""The name of a setting → old value → new value."""

RENAMED_TARGETS = {
    "datamodules.grammar.Counting": "datamodules.grammar_strings.GrammarStrings",
    "datamodules.midi_messages.MidiFolder": "datamodules.message_streams.MidiFolder",
    "datamodules.midi_messages.Mozart": "datamodules.message_streams.Mozart",
    "datamodules.text.Text": "datamodules.text_file.TextFile",
    "musegen.loggers.CSV": "musegen.training.loggers.CSV",
    "musegen.loggers.TensorBoard": "musegen.training.loggers.TensorBoard",
    "musegen.loggers.WandB": "musegen.training.loggers.WandB",
    "musegen.optim.Optimizer": "musegen.training.optimizer.Optimizer",
    "musegen.trainer.make_trainer": "musegen.training.trainer.make_trainer",
    "musegen.callbacks.progress.TrainingProgress": (
        "musegen.training.callbacks.training_progress.TrainingProgress"
    ),
    "musegen.callbacks.starts.BestStart": "musegen.training.callbacks.best_start.BestStart",
}
"""Old `_target_` → new `_target_`."""


def check_renamed_setting(where: str, key: str, value: Any, known: Collection[str]) -> None:
    """Raise `UserError` if `key`, which is not in `known`, is the old name of one that is."""
    new = RENAMED_SETTINGS.get(f"{where}.{key}")
    if new is not None and new.rpartition(".")[2] in known:
        new_value = _new_value(new, value) or value
        raise _renamed(f"{where}.{key}={value}", f"{new}={new_value}")


def check_renamed_value(setting: str, value: Any) -> None:
    """Raise `UserError` if `value` is the old name of a value of this setting."""
    if new := _new_value(setting, value):
        raise _renamed(f"{setting}={value}", f"{setting}={new}")


def check_renamed_target(where: str, path: str) -> None:
    """Raise `UserError` if the import path is an old one."""
    if path.startswith("musegen.callbacks.") and path not in RENAMED_TARGETS:
        new: str | None = path.replace("musegen.", "musegen.training.", 1)
    else:
        new = RENAMED_TARGETS.get(path)
    if new:
        raise _renamed(f"{where}._target_={path}", f"{where}._target_={new}")


def _new_value(setting: str, value: Any) -> str | None:
    return RENAMED_VALUES.get(setting, {}).get(value) if isinstance(value, str) else None


def _renamed(old: str, new: str) -> UserError:
    return UserError(f"{old} was renamed: write {new}")
