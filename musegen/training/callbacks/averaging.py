"""Averages of the weights over the training, which are validated, tested and sampled from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
from torch.optim.swa_utils import get_ema_avg_fn

from musegen.constraints import NonNegativeInt, OpenFraction, PositiveInt, check_arguments
from musegen.training.lightning_compat import AveragedParameters


class EMA(AveragedParameters):
    """The exponential moving average of the weights, w̄ ← decay · w̄ + (1 − decay) · w per update.

    - decay: how much of the average an update keeps. 0.999 averages about 1,000 updates.
    - start_step: the number of updates before the average begins, with the weights of that moment.

    The training goes on with w; w̄ is in best.ckpt. A resumed run continues both.
    """

    @check_arguments
    def __init__(self, decay: OpenFraction = 0.999, start_step: NonNegativeInt = 0) -> None:
        super().__init__(avg_fn=get_ema_avg_fn(decay))
        self.start_step = start_step

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx >= self.start_step


class SWA(AveragedParameters):
    """Stochastic weight averaging (Izmailov et al. 2018): the mean of the weights after epochs.

    - start_epoch: the first epoch whose weights are in the mean; 1 is the first of all.

    The learning rate stays that of the optimizer; `optimizer.schedule=none` keeps it high enough
    for the weights of the epochs to differ. The mean is in best.ckpt from `start_epoch` on, if it
    has the best score. A resumed run continues it.
    """

    @check_arguments
    def __init__(self, start_epoch: PositiveInt = 1) -> None:
        super().__init__()
        self.start_epoch = start_epoch
        self._epoch_ends = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *arguments: Any
    ) -> None:
        # Not after the epoch: then the epoch's validation would be of the mean before.
        self._epoch_ends = trainer.is_last_batch and trainer.current_epoch + 1 >= self.start_epoch
        super().on_train_batch_end(trainer, pl_module, *arguments)

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and self._epoch_ends


@contextmanager
def average_in_place(trainer: pl.Trainer) -> Iterator[None]:
    """In the block the model has the averaged weights, if a callback averages them."""
    averages = [c for c in trainer.callbacks if isinstance(c, AveragedParameters)]  # type: ignore[attr-defined]
    for callback in averages:
        callback.swap(trainer.lightning_module)
    try:
        yield
    finally:
        for callback in averages:
            callback.swap(trainer.lightning_module)
