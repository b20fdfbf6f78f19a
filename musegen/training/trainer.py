"""The user's `trainer.gpus`, mapped to Lightning's accelerator, devices and strategy."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import (
    AdvancedProfiler,
    PassThroughProfiler,
    Profiler,
    PyTorchProfiler,
    SimpleProfiler,
)
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from musegen.constraints import NonNegativeFloat, NonNegativeInt, PositiveInt, check_arguments
from musegen.errors import UserError
from musegen.training.checkpoint_files import CheckpointFiles
from musegen.training.lightning_compat import (
    copies_itself,
    reduce_in_buckets,
    require_supported_lightning,
)

TRAINER_DEFAULTS: dict[str, Any] = {
    "use_distributed_sampler": False,  # the batch samplers of the data modules know the ranks
    "enable_model_summary": False,  # the banner prints one
    "enable_progress_bar": False,  # callbacks.progress shows one
}
"""Trainer arguments that always differ from Lightning's defaults; `trainer.*` overrides them."""


PROFILERS: dict[str, type[Profiler]] = {
    "simple": SimpleProfiler,
    "advanced": AdvancedProfiler,
    "pytorch": PyTorchProfiler,
}
"""The profilers that `trainer.profiler` names. Their tables are files in `default_root_dir`."""


DISTRIBUTED_WEIGHTS = "fsdp", "deepspeed", "modelparallel"
"""What the names of Lightning's strategies that distribute the weights begin with."""


class Unprofiled(PassThroughProfiler):
    """A profiler that measures nothing, at no cost. `trainer.profiler` names a real one.

    Lightning's default enters a generator's context some forty times in each update, which is a
    twentieth of a small network's time (`benchmarks/rbm_speed.py`). This context is empty.
    """

    _empty_context = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        return self._empty_context


@check_arguments
def make_trainer(
    gpus: int | list[int] | None = None,
    fast: bool = False,
    accumulate_grad_batches: PositiveInt = 1,
    check_val_every_n_epoch: PositiveInt | None = 1,
    gradient_clip_val: NonNegativeFloat | None = None,
    log_every_n_steps: NonNegativeInt | None = None,
    **settings: Any,
) -> pl.Trainer:
    """A Lightning Trainer.

    - gpus: null for one GPU if torch sees one, else the CPU; 0 for the CPU; n for n GPUs, with
      DDP if n > 1; −1 for all GPUs; a list for the GPUs with these numbers.
    - fast: train with what makes a GPU faster: `precision=bf16-mixed`, unless another one is given,
      and in a config also the loss compiled by torch.compile, on a GPU as CUDA graphs.
    - settings: arguments of `pytorch_lightning.Trainer`; `accelerator`, `devices` and `strategy`
      replace what `gpus` implies.

    The other named arguments are Lightning's, within their ranges. Raises `UserError` for more GPUs
    than there are, for a value that Lightning refuses, for a version of Lightning that musegen was
    not tried with, for a strategy that distributes the weights (FSDP, DeepSpeed), and for one that
    copies the run into new processes (`ddp_spawn`, `ddp_fork`, `ddp_notebook`): the results would
    stay there, and threads do not survive a fork.
    """
    require_supported_lightning()
    _refuse_distributed_weights(settings.get("strategy"))
    if fast and settings.get("precision") is None:
        settings["precision"] = "bf16-mixed"
    if settings.get("profiler") in PROFILERS:  # Lightning would write the table into a hidden log
        profiler = PROFILERS[settings["profiler"]]
        settings["profiler"] = profiler(settings.get("default_root_dir"), filename="profile")
    plugins = [CheckpointFiles(), *_as_list(settings.pop("plugins", None))]
    try:
        trainer = pl.Trainer(
            **{**devices(gpus), **TRAINER_DEFAULTS, "profiler": Unprofiled(), **settings},
            accumulate_grad_batches=accumulate_grad_batches,
            check_val_every_n_epoch=check_val_every_n_epoch,
            gradient_clip_val=gradient_clip_val,
            log_every_n_steps=log_every_n_steps,
            plugins=plugins,
        )
    except (MisconfigurationException, ValueError, TypeError) as e:
        raise UserError(f"trainer: {' '.join(str(e).split())}") from e
    reduce_in_buckets(trainer.strategy)
    if copies_itself(trainer.strategy):
        raise UserError(
            f"trainer.strategy={settings['strategy']}: not supported; use trainer.strategy=ddp, "
            "which starts its processes as well"
        )
    return trainer


# `check_settings` reads the names and types of `**settings` there.
make_trainer.passes_to = pl.Trainer  # type: ignore[attr-defined]


def _refuse_distributed_weights(strategy: Any) -> None:
    """Raise `UserError` for a strategy in which no process has all the weights."""
    name = strategy if isinstance(strategy, str) else type(strategy).__name__
    if name.lower().startswith(DISTRIBUTED_WEIGHTS):
        raise UserError(
            f"trainer.strategy={name}: not supported, since checkpoints and samples need all "
            "weights in one process; use trainer.strategy=ddp"
        )


def _as_list(plugins: Any) -> list[Any]:
    return [] if plugins is None else plugins if isinstance(plugins, list) else [plugins]


def one_device(settings: dict[str, Any]) -> dict[str, Any]:
    """The same trainer settings for a single process, on the first of the devices."""
    single = {k: v for k, v in settings.items() if k not in ("strategy", "num_nodes")}
    gpus, count = single.get("gpus"), single.get("devices")
    if isinstance(gpus, int) and gpus:
        single["gpus"] = 1
    elif isinstance(gpus, list):
        single["gpus"] = gpus[:1]
    if count is not None:
        single["devices"] = count[:1] if isinstance(count, list) else 1
    return single


def devices(gpus: int | list[int] | None) -> dict[str, Any]:
    """The Trainer arguments that `gpus` stands for. Raises `UserError` for GPUs not there."""
    available = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpus is None:
        gpus = min(1, available)
    if gpus == 0 or gpus == []:
        return {"accelerator": "cpu", "devices": 1}
    if min(gpus, default=0) < 0 if isinstance(gpus, list) else gpus < -1:
        raise UserError(f"trainer.gpus={gpus}: write a number, -1 for all, or a list like [0,1]")
    needed = max(gpus) + 1 if isinstance(gpus, list) else (available if gpus == -1 else gpus)
    if needed > available or available == 0:
        remedy = f"trainer.gpus={available} or less" if available else "trainer.gpus=0 for the CPU"
        raise UserError(f"trainer.gpus={gpus}: torch sees {available} GPUs here; write {remedy}")
    count = len(gpus) if isinstance(gpus, list) else needed
    arguments: dict[str, Any] = {"accelerator": "gpu", "devices": gpus}
    return {**arguments, "strategy": "ddp"} if count > 1 else arguments
