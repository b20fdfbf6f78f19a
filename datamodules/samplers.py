"""Which examples are in which batch: a function of (seed, epoch, rank)."""

from __future__ import annotations

import hashlib
import pickle
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from musegen.errors import UserError
from musegen.runtime.distributed import this_rank

T = TypeVar("T")


class BatchLoader(DataLoader):
    """A loader that counts the batches it has given, and can resume in the middle of an epoch.

    Lightning calls `state_dict` and `load_state_dict` of a loader that can be resumed. After a
    resume the rest of the epoch is the same as without the interruption, because the plan is a
    function of (seed, epoch, rank). `dataset.__getitems__` makes whole batches; they are neither
    collated nor pinned.
    """

    batch_sampler: EpochBatchSampler
    dataset: Any

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        if self.num_workers == 0:
            # The iterator of DataLoader costs as much time as making a batch of digits.
            return self._count_batches(map(self.dataset.__getitems__, self.batch_sampler))
        # Called here and not inside the generator, so that the workers start immediately.
        return self._count_batches(super().__iter__())

    def _count_batches(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            self.batch_sampler.start = 0  # only the first pass after a resume skips batches
            self.batch_sampler.given += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The position of the batch sampler."""
        return self.batch_sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the position of a batch sampler."""
        self.batch_sampler.load_state_dict(state)


def batch_loader(dataset: Dataset, batches: EpochBatchSampler, num_workers: int) -> DataLoader:
    """A loader of the batches that `dataset.__getitems__` makes from the keys of a plan."""
    return BatchLoader(
        dataset,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_identity,
        # A loader draws a seed for its workers in every epoch. With a separate generator this
        # does not change the random numbers of the model.
        generator=torch.Generator(),
        persistent_workers=num_workers > 0,
    )


def _identity(batch: Any) -> Any:
    return batch


class EpochBatchSampler(Sampler[list[T]]):
    """A batch sampler whose batches are a function of (seed, epoch, rank).

    `plan(epoch, rank, world)` returns the batches of this rank in one epoch. Each batch is a list
    of keys that the data set understands. Lightning calls `set_epoch`. In training all ranks must
    plan the same number of batches, and this number must be the same in every epoch.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.start = 0
        """The first batch of the next pass. It is not 0 only after a resume."""
        self.given = 0
        """The number of batches of this epoch that the loader has given."""
        self.repeat_epoch = False
        """Whether every epoch has the batches of epoch 0, as `trainer.overfit_batches` asks."""
        self._hashed = ((-1, 0), "")
        """The (epoch, number of processes) whose plan was hashed last, and its hash."""
        self._counted: tuple[Any, int] = (None, 0)
        """The (rank, number of processes, settings) whose batches were counted last, and how many.
        Lightning asks a dozen times, and a plan of millions of messages takes a second."""

    def set_epoch(self, epoch: int) -> None:
        """Plan the batches of this epoch in the next pass."""
        if epoch != self.epoch:
            self.epoch, self.start, self.given = epoch, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """The position in the epoch, and what its batches depend on, as plain values."""
        world = this_rank()[1]
        return {
            "epoch": self.epoch,
            "given": self.given,
            "world": world,
            "plan": self._plan_hash(self.epoch, world),
            "settings": self.settings(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Start the next pass at the position `state`.

        Raises `UserError` if `state` is in the middle of an epoch whose batches were others: from
        another number of processes, another batch size, other data. The rest of the epoch would
        repeat some examples and skip others.
        """
        if state["given"]:
            self._check_plan(state)
        self.epoch, self.start, self.given = state["epoch"], state["given"], state["given"]

    def _check_plan(self, state: dict[str, Any]) -> None:
        world = this_rank()[1]
        if state["world"] != world:
            raise UserError(
                "the checkpoint was written in the middle of an epoch by a run with "
                f"{state['world']} processes, but this run has {world}: "
                f"resume with {state['world']}"
            )
        if state["plan"] != self._plan_hash(state["epoch"], world):
            before, now = state["settings"], self.settings()
            changes = [
                f"{k}={now[k]} (was {before.get(k)})" for k in now if before.get(k) != now[k]
            ]
            raise UserError(
                "the checkpoint was written in the middle of an epoch that had other batches: "
                f"{', '.join(changes) or 'the data or their settings have changed'}; "
                "resume with the data and settings of before"
            )

    def settings(self) -> dict[str, Any]:
        """The numbers that the plan depends on, by name."""
        position = ("epoch", "start", "given", "repeat_epoch")
        return {
            name: value
            for name, value in vars(self).items()
            if name not in position and isinstance(value, int | float | None)
        }

    def _plan_hash(self, epoch: int, world: int) -> str:
        """A hash of the batches that the first process has in an epoch."""
        if self._hashed[0] != (epoch, world):
            plan = pickle.dumps(self.plan(epoch, 0, world), protocol=4)
            self._hashed = (epoch, world), hashlib.sha256(plan).hexdigest()
        return self._hashed[1]

    @property
    def sampler(self) -> EpochBatchSampler[T]:
        """The batch sampler itself: Lightning calls `batch_sampler.sampler.set_epoch`."""
        return self

    @abstractmethod
    def plan(self, epoch: int, rank: int, world: int) -> list[list[T]]:
        """The batches of `rank`, one of `world` ranks, in one epoch."""

    def current_plan(self) -> list[list[T]]:
        """The batches of this process in the current epoch."""
        return self.plan(0 if self.repeat_epoch else self.epoch, *this_rank())

    def __iter__(self) -> Iterator[list[T]]:
        self.given = self.start  # a loader with workers calls this twice
        return iter(self.current_plan()[self.start :])

    def __len__(self) -> int:
        rank, world = this_rank()
        key = rank, world, self.settings()
        if self._counted[0] != key:
            self._counted = key, len(self.plan(0, rank, world))
        n = self._counted[1]
        if n == 0 and world > 1:
            raise UserError(
                f"there are fewer batches than the {world} processes: make data.batch_size "
                "smaller, or use fewer processes"
            )
        return n


def eval_batch_size(n: int, width: int, world: int) -> int:
    """The size of an evaluation batch, at most `width`, so that every process gets an example."""
    return max(1, min(width, -(-n // world)))
