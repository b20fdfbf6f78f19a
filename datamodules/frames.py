"""Batches of independent examples, such as images and single piano-roll frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datamodules.samplers import EpochBatchSampler, epoch_rng, eval_batch_size

EVAL_BATCH_SIZE = 1000
"""Examples per batch of validation and test, where the batch size changes no metric."""


@dataclass(frozen=True)
class ExampleIndices:
    """The examples of a batch, by index, and the seed of the random numbers drawn for them."""

    indices: np.ndarray
    seed: tuple[int, ...]

    def describe(self) -> str:
        """The examples as an error message names them."""
        return f"training examples {', '.join(map(str, self.indices.tolist()))}"


class RowSampler(EpochBatchSampler[ExampleIndices]):
    """Batches of `batch_size` examples, shuffled in every epoch (`shuffle`) or in file order.

    The seed of a batch is different in every epoch of training. In evaluation (`training` false)
    it is always the same, so that the metrics of two epochs or of two models can be compared.
    """

    def __init__(self, n: int, batch_size: int, seed: int, training: bool, shuffle: bool) -> None:
        super().__init__()
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.training, self.shuffle = training, shuffle

    def plan(self, epoch: int, rank: int, world: int) -> list[list[ExampleIndices]]:
        epoch = epoch if self.training else 0
        order = epoch_rng(self.seed, epoch).permutation(self.n) if self.shuffle else range(self.n)
        order_N = np.asarray(order)
        size = self.batch_size if self.training else eval_batch_size(self.n, self.batch_size, world)
        starts = range(0, self.n, size)
        if self.training:
            # There is one persistent chain for each example of a batch, so all batches must be
            # full; and all ranks must take the same number. The rest waits for another epoch.
            n_batches = self.n // self.batch_size // world * world
            starts = starts[:n_batches]
        return [
            [ExampleIndices(order_N[s : s + size], (self.seed, epoch, s))]
            for s in starts[rank::world]
        ]
