"""Batches of independent examples, such as images and single piano-roll frames."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datamodules.samplers import EpochBatchSampler, eval_batch_size
from musegen.runtime.random_streams import Stream, random_stream

EVAL_BATCH_SIZE = 1000
"""Examples per batch of validation and test, where the batch size changes no metric."""


@dataclass(frozen=True)
class ExampleIndices:
    """The examples of a batch, by index, and the stream of the random numbers drawn for them."""

    indices: np.ndarray
    stream: Stream
    seed: int
    key: tuple[int, ...]

    def rng(self) -> np.random.Generator:
        """The generator of these random numbers."""
        return random_stream(self.stream, self.seed, *self.key)

    def describe(self) -> str:
        """The examples as an error message names them."""
        return f"training examples {', '.join(map(str, self.indices.tolist()))}"


class RowSampler(EpochBatchSampler[ExampleIndices]):
    """Batches of `batch_size` examples, shuffled in every epoch (`shuffle`) or in file order.

    The random numbers of a batch are different in every epoch of training. In evaluation
    (`training` false) they are always the same, so that the metrics of two epochs or of two models
    can be compared.
    """

    def __init__(self, n: int, batch_size: int, seed: int, training: bool, shuffle: bool) -> None:
        super().__init__()
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.training, self.shuffle = training, shuffle

    def plan(self, epoch: int, rank: int, world: int) -> list[list[ExampleIndices]]:
        order_N = np.arange(self.n)
        if self.shuffle:
            random_stream(Stream.EPOCHS, self.seed, epoch).shuffle(order_N)
        size = self.batch_size if self.training else eval_batch_size(self.n, self.batch_size, world)
        starts = range(0, self.n, size)
        if self.training:
            # There is one persistent chain for each example of a batch, so all batches must be
            # full; and all ranks must take the same number. The rest waits for another epoch.
            n_batches = self.n // self.batch_size // world * world
            starts = starts[:n_batches]
        return [
            [ExampleIndices(order_N[s : s + size], *self._stream(epoch, s))]
            for s in starts[rank::world]
        ]

    def _stream(self, epoch: int, start: int) -> tuple[Stream, int, tuple[int, ...]]:
        """The stream of the batch whose first example is `start`."""
        if self.training:
            return Stream.TRAINING_EXAMPLES, self.seed, (epoch, start)
        return Stream.EVALUATION_EXAMPLES, self.seed, (start,)
