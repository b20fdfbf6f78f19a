"""The scores of a model that does not state them, before it is trained."""

from __future__ import annotations

import copy
from typing import Any

import torch

from musegen.config.consistency import all_callbacks_known, check_monitors, states_scores
from musegen.config.instantiation import build_trainer
from musegen.models import Model
from musegen.runtime.distributed import this_rank


def check_unstated_scores(settings: dict[str, Any], model: Model, data: Any) -> None:
    """Raise `UserError` for a monitored `val/…` that the model does not log.

    A class outside musegen need not state its scores (`Model.scores`). It then validates one
    batch, and what it logs is compared. In several processes nothing is checked: they form their
    group only when the training starts.
    """
    known_by_class = states_scores(type(model)) or not all_callbacks_known(settings)
    if known_by_class or this_rank()[1] > 1 or settings["trainer"].get("limit_val_batches") == 0:
        return
    one_batch = settings | {"trainer": settings["trainer"] | {"limit_val_batches": 1}}
    trainer = build_trainer(one_batch, bare=True)
    if trainer.world_size > 1:
        return
    with torch.random.fork_rng(devices=[]):
        # A copy: the model's metrics and states would remain inference tensors.
        trainer.validate(copy.deepcopy(model), datamodule=data, verbose=False)
    check_monitors(settings, type(model), [str(name) for name in trainer.callback_metrics], "val/")
