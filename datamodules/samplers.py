"""Which examples are in which batch: a function of (seed, epoch, rank)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from musegen.errors import UserError
from musegen.runtime.distributed import this_rank

T = TypeVar("T")


def epoch_rng(seed: int, epoch: int, *more: int) -> np.random.Generator:
    """The random stream of one epoch: a function of its number, not of what was drawn before."""
    return np.random.default_rng([seed, epoch, *more])


class BatchLoader(DataLoader):
    """A loader that knows how many batches it has given, and can go on from there.

    `state_dict` and `load_state_dict` are what Lightning asks of a loader that can be resumed in
    the middle of an epoch. What is left of the epoch is then what would have come: a plan is a
    function of (seed, epoch, rank). Batches come whole from `dataset.__getitems__`; nothing
    collates or pins them.
    """

    batch_sampler: EpochBatchSampler
    dataset: Any

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        if self.num_workers == 0:
            # Without the workers' machinery, which takes as long as to make a batch of digits.
            return self._counted(map(self.dataset.__getitems__, self.batch_sampler))
        # At once and not when the first batch is asked for: workers may begin.
        return self._counted(super().__iter__())

    def _counted(self, batches: Iterator[Any]) -> Iterator[Any]:
        for batch in batches:
            self.batch_sampler.start = 0  # for the pass after this one
            self.batch_sampler.given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return self.batch_sampler.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.batch_sampler.load_state_dict(state)


def batch_loader(rows: Dataset, batches: EpochBatchSampler, num_workers: int) -> DataLoader:
    """A loader of batches that `rows.__getitems__` makes whole from the keys of a plan."""
    return BatchLoader(
        rows,
        batch_sampler=batches,
        num_workers=num_workers,
        collate_fn=_as_is,
        # A loader draws a seed for its workers in every epoch: not from the models' stream.
        generator=torch.Generator(),
        persistent_workers=num_workers > 0,
    )


def _as_is(batch: Any) -> Any:
    return batch


class EpochBatchSampler(Sampler[list[T]]):
    """A batch sampler whose batches are a function of (seed, epoch, rank).

    `plan(epoch, rank, world)` gives this rank's batches of one epoch, each a list of keys that
    the data set understands. Lightning calls `set_epoch`. In training all ranks must plan
    equally many, and as many in every epoch.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.start = 0
        """The batch of the epoch with which the next pass begins; 0 but in a resumed run."""
        self.given = 0
        """Batches of this epoch that the loader has given."""

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.start, self.given = epoch, 0, 0

    def state_dict(self) -> dict[str, int]:
        """Where the epoch stands: plain numbers for a checkpoint."""
        return {"epoch": self.epoch, "given": self.given, "world": this_rank()[1]}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next pass where that state stands.

        Raises `UserError` for the middle of an epoch that another number of processes began:
        their shares of it are not these.
        """
        world = this_rank()[1]
        if state["given"] and state["world"] != world:
            raise UserError(
                f"the checkpoint stands in the middle of an epoch of {state['world']} processes, "
                f"and here are {world}: resume with as many"
            )
        self.epoch, self.start, self.given = state["epoch"], state["given"], state["given"]

    @property
    def sampler(self) -> EpochBatchSampler[T]:
        """Itself: Lightning calls `set_epoch` of a loader's `batch_sampler.sampler`."""
        return self

    @abstractmethod
    def plan(self, epoch: int, rank: int, world: int) -> list[list[T]]:
        """This rank's batches of an epoch."""

    def __iter__(self) -> Iterator[list[T]]:
        self.given = self.start  # a loader with workers asks twice
        return iter(self.plan(self.epoch, *this_rank())[self.start :])

    def __len__(self) -> int:
        rank, world = this_rank()
        n = len(self.plan(0, rank, world))
        if n == 0 and world > 1:
            raise UserError(
                f"there are fewer batches than the {world} processes; make data.batch_size "
                "smaller, or take fewer processes"
            )
        return n


def shared_width(n: int, width: int, world: int) -> int:
    """Rows of a batch of evaluation, `width` at most, that leave no process without any."""
    return max(1, min(width, -(-n // world)))
