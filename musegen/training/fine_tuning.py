"""`init_from=RUN`: a new run that starts with the weights of a trained model (fine-tuning)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from musegen.errors import UserError
from musegen.models import Model, load_model
from musegen.training.checkpoint_files import find_checkpoint

NOT_SETTINGS = ("name", "import_path", "musegen_version", "spec", "codec")
MAX_NAMES = 3


class Source:
    """The trained model that `init_from` names: a run folder (its best checkpoint) or a checkpoint.

    Raises `UserError` as `load_model` does.
    """

    def __init__(self, path: Path) -> None:
        self.path = find_checkpoint(path, "init_from")
        self.model = load_model(self.path)

    def initialise(self, model: Model) -> None:
        """Copy the weights into a new model of the same class and sizes.

        `Model.weights_from` says which classes of the data may differ. Raises `UserError`, with
        both values, for another class, other sizes or data that does not fit.
        """
        where, old = f"init_from={self.path}", self.model
        if type(model) is not type(old):
            raise UserError(f"{where}: a checkpoint of {old.name}, but this run's is {model.name}")
        try:
            weights = model.weights_from(old)
        except UserError as e:
            raise UserError(f"{where}: {e}") from e
        own = model.state_dict()
        # Counts of the training data, such as n-grams, are made for the data of the new run.
        weights = {k: v for k, v in weights.items() if not k.endswith("_extra_state")}
        names = {k for k in own if not k.endswith("_extra_state")}
        if names != weights.keys() or any(own[k].shape != weights[k].shape for k in names):
            raise UserError(f"{where}: {_difference(old, model)}")
        model.load_state_dict(own | weights)
        model.initialised = True

    def warn_of_overlap(self, pieces_by_split: Any) -> None:
        """Print a line if pieces that the source was trained on are in validation or test now."""
        try:
            record = json.loads((self.path.parent.parent / "split.json").read_text("utf-8"))
            trained_on = set(record["train"])
        except (OSError, ValueError, KeyError, TypeError):  # no run folder beside the checkpoint
            return
        found = [
            name
            for split in ("val", "test")
            for key, name in pieces_by_split.get(split, {}).items()
            if key in trained_on
        ]
        if not found:
            return
        names = ", ".join(found[:MAX_NAMES]) + (", …" if len(found) > MAX_NAMES else "")
        print(
            f"init_from: {len(found)} pieces of validation or test ({names}) were in the training "
            f"data of {self.path}, so their metrics are biased"
        )


def _difference(old: Model, new: Model) -> str:
    """The settings in which two models of one class with different weights differ."""
    both = [(k, old.hparams.get(k), v) for k, v in new.hparams.items() if k not in NOT_SETTINGS]
    differing = [(k, a, b) for k, a, b in both if a != b]
    if not differing:
        return "its weights have other sizes than those of this run's model"
    was = ", ".join(f"{k}={a}" for k, a, _ in differing)
    is_now = ", ".join(f"{k}={b}" for k, _, b in differing)
    return f"its model has {was}, but this run's has {is_now}; set model.{differing[0][0]} alike"
