"""The user's `trainer.gpus`, mapped to Lightning's accelerator, devices and strategy."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from musegen.errors import UserError
from musegen.training.checkpoint_files import CheckpointFiles

TRAINER_DEFAULTS: dict[str, Any] = {
    "use_distributed_sampler": False,  # the data modules' batch samplers know the ranks
    "enable_model_summary": False,  # the start banner says it
    "enable_progress_bar": False,  # callbacks.progress shows it
}
"""Trainer arguments that differ from Lightning's defaults everywhere; `trainer.*` wins."""


class Unprofiled(PassThroughProfiler):
    """Lightning's default enters a generator's context some forty times an update, to measure
    nothing: a twentieth of a small net's time (`benchmarks/rbm_speed.py`). Here it is an empty
    one. `trainer.profiler` names a real one."""

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return self._nothing


def make_trainer(gpus: int | list[int] | None = None, **settings: Any) -> pl.Trainer:
    """A Lightning Trainer.

    - gpus: null takes one GPU if torch sees one, else the CPU; 0 the CPU; n that many GPUs, by
      DDP when n > 1; −1 all; a list those.
    - everything else is passed on to `pytorch_lightning.Trainer`; `accelerator`, `devices` and
      `strategy` given here win over what `gpus` implies.

    Raises `UserError` for more GPUs than there are, or a value that Lightning refuses.
    """
    plugins = [CheckpointFiles(), *_listed(settings.pop("plugins", None))]
    try:
        return pl.Trainer(
            **{**devices(gpus), **TRAINER_DEFAULTS, "profiler": Unprofiled(), **settings},
            plugins=plugins,
        )
    except (MisconfigurationException, ValueError, TypeError) as e:
        raise UserError(f"trainer: {' '.join(str(e).split())}") from e


make_trainer.passes_to = pl.Trainer  # type: ignore[attr-defined]  # for build's checks


def _listed(given: Any) -> list[Any]:
    return [] if given is None else given if isinstance(given, list) else [given]


def one_device(settings: dict[str, Any]) -> dict[str, Any]:
    """The same trainer's settings for the first of its devices, in this process alone."""
    alone = {k: v for k, v in settings.items() if k not in ("strategy", "num_nodes")}
    gpus, count = alone.get("gpus"), alone.get("devices")
    if isinstance(gpus, int) and gpus:
        alone["gpus"] = 1
    elif isinstance(gpus, list):
        alone["gpus"] = gpus[:1]
    if count is not None:
        alone["devices"] = count[:1] if isinstance(count, list) else 1
    return alone


def devices(gpus: int | list[int] | None) -> dict[str, Any]:
    """Trainer arguments that `gpus` stands for."""
    seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus is None:
        gpus = min(1, seen)
    if gpus == 0 or gpus == []:
        return {"accelerator": "cpu", "devices": 1}
    wanted = max(gpus) + 1 if isinstance(gpus, list) else (seen if gpus == -1 else gpus)
    if (isinstance(gpus, int) and gpus < -1) or (isinstance(gpus, list) and min(gpus) < 0):
        raise UserError(f"trainer.gpus={gpus}: write a number, -1 for all, or a list like [0,1]")
    if wanted > seen or seen == 0:
        types = f"trainer.gpus={seen} or less" if seen else "trainer.gpus=0 for the CPU"
        raise UserError(f"trainer.gpus={gpus}: torch sees {seen} GPUs here; type {types}")
    count = len(gpus) if isinstance(gpus, list) else wanted
    arguments: dict[str, Any] = {"accelerator": "gpu", "devices": gpus}
    return {**arguments, "strategy": "ddp"} if count > 1 else arguments
