"""Batches of independent rows, in a new order every epoch: images, single piano-roll frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datamodules.samplers import EpochBatchSampler, epoch_rng, shared_width

EVAL_ROWS = 1000
"""Rows per batch of validation and test, where the width of a batch changes no metric."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a split, and the numbers that seed what is drawn for them."""

    indices: np.ndarray
    seed: tuple[int, ...]

    def named(self) -> str:
        return f"training rows {', '.join(map(str, self.indices.tolist()))}"


class RowSampler(EpochBatchSampler[Rows]):
    """Batches of `batch_size` rows, in a new order every epoch (`shuffle`) or in the file's.

    What is drawn by lot is drawn anew in every epoch of training, and always alike in
    evaluation (`training` false), so that the metrics of two epochs or models compare.
    """

    def __init__(self, n: int, batch_size: int, seed: int, training: bool, shuffle: bool) -> None:
        super().__init__()
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.training, self.shuffle = training, shuffle

    def plan(self, epoch: int, rank: int, world: int) -> list[list[Rows]]:
        epoch = epoch if self.training else 0
        order = epoch_rng(self.seed, epoch).permutation(self.n) if self.shuffle else range(self.n)
        order_N = np.asarray(order)
        size = self.batch_size if self.training else shared_width(self.n, self.batch_size, world)
        starts = range(0, self.n, size)
        if self.training:
            # Persistent chains are as many as a batch has rows, and ranks must take equally
            # many batches: what does not go round is left for another epoch.
            whole = self.n // self.batch_size // world * world
            starts = starts[:whole]
        return [[Rows(order_N[s : s + size], (self.seed, epoch, s))] for s in starts[rank::world]]
