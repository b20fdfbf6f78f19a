"""The number of CPU threads of a run: one or all, whichever trains faster on this machine now.

The kernels of recurrent networks let their threads wait for each other in every step. If another
program keeps a core busy, an epoch with two threads may take 20 times as long as with one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from torch import Tensor
from torch.utils._pytree import tree_map_only

from musegen.constraints import PositiveInt, check_arguments
from musegen.models.base import Model
from musegen.runtime.atomic import write_text

ROUNDS, MAX_SECONDS, CLEAR = 8, 3.0, 2.0
"""Each round times an update with each number of threads. There is no further round after so many
seconds, or after one number of threads took so many times as long as another."""
GAIN = 0.95
"""More threads are used if they need less than this fraction of the time of one thread."""
SLOW = 2.0
"""An epoch that has taken so many times as long as the fastest one is a reason to measure again."""


class Threads(pl.Callback):
    """Trains with one thread or with all, whichever is faster.

    - count: the number of threads; null chooses.
    - config: the run's config.yaml.

    A few updates are timed when the training starts, without changing the model, and again as soon
    as an epoch has taken twice as long as the fastest one (at its end, if gradients of several
    batches are accumulated). Each choice is printed and recorded as `count` in the run's
    config.yaml, so that a resumed run has the same number of threads: another number may change
    the last bits of the result. Nothing is chosen if OMP_NUM_THREADS is set, in a run of several
    processes, and on a GPU.
    """

    @check_arguments
    def __init__(self, config: Path, count: PositiveInt | None = None) -> None:
        self.config, self.count = config, count
        self._all = torch.get_num_threads()
        self._best = float("inf")
        self._started = 0.0
        self._chose = False
        """Whether there was a choice in this epoch."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        model: Any = pl_module
        if self.count is not None:
            torch.set_num_threads(self.count)
        elif self._may_choose(trainer):
            self._choose(model, list(islice(model.train_batches(), 2)))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started, self._chose = time.monotonic(), False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Measuring clears the gradients, so that it has to wait while they are accumulated.
        if trainer.accumulate_grad_batches == 1 or trainer.is_last_batch:
            self._choose_if_slow(trainer, pl_module, batch)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._best = min(self._best, time.monotonic() - self._started)

    def _choose_if_slow(self, trainer: pl.Trainer, model: Model, batch: Any) -> None:
        slow = time.monotonic() - self._started > SLOW * self._best
        if slow and not self._chose and torch.get_num_threads() > 1 and self.count is None:
            self._chose = True
            if self._may_choose(trainer):
                self._choose(model, [batch])

    def _may_choose(self, trainer: pl.Trainer) -> bool:
        on_cpu = trainer.strategy.root_device.type == "cpu"
        return (
            on_cpu
            and trainer.world_size == 1
            and self._all > 1
            and "OMP_NUM_THREADS" not in os.environ
        )

    def _choose(self, model: Model, batches: Sequence[Any]) -> None:
        """Use the number of threads that is faster on these batches; print and record it."""
        before = torch.get_num_threads()
        one, several = update_seconds(model, (1, self._all), batches)
        chosen = self._all if several < GAIN * one else 1
        torch.set_num_threads(chosen)
        if chosen != before:
            print(
                f"threads    {chosen} from here on: an update takes {one:.3g} s with 1 and "
                f"{several:.3g} s with {self._all}; callbacks.threads.count={self._all} "
                "keeps all",
                flush=True,
            )
        self._record(chosen)

    def _record(self, chosen: int) -> None:
        if self.config.exists():
            settings = OmegaConf.load(self.config)
            OmegaConf.update(settings, "callbacks.threads.count", chosen)
            write_text(self.config, OmegaConf.to_yaml(settings))


def update_seconds(model: Model, counts: Sequence[int], batches: Sequence[Any]) -> list[float]:
    """The median time of an update, forward and backward, with each number of threads.

    The updates are those of `batches`, in turns.

    The model, its gradients and the random streams are afterwards as before.
    """
    state = tree_map_only(Tensor, lambda t: t.detach().clone(), model.training_state())
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    turns = cycle(batches)
    seconds: dict[int, list[float]] = {n: [] for n in counts}
    with torch.random.fork_rng(devices=[]):
        _round(model, next(turns), {n: [] for n in counts})  # a warm-up
        started = time.monotonic()
        for batch in islice(turns, ROUNDS):
            _round(model, batch, seconds)
            fastest, slowest = (f(median(s) for s in seconds.values()) for f in (min, max))
            if slowest > CLEAR * fastest or time.monotonic() - started > MAX_SECONDS:
                break
    model.zero_grad(set_to_none=True)
    model.load_state_dict(buffers, strict=False)
    model.load_training_state(state)
    return [median(measured) for measured in seconds.values()]


def _round(model: Model, batch: Any, seconds: dict[int, list[float]]) -> None:
    """Time one update with each number of threads, and add the times to `seconds`."""
    for n, measured in seconds.items():
        torch.set_num_threads(n)
        started = time.perf_counter()
        torch.stack(list(model.losses(batch).values())).sum().backward()
        measured.append(time.perf_counter() - started)
