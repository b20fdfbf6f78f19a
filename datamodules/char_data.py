"""The base of the character data sets: encoded texts, in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from datamodules.base import SPLITS, DataModule
from datamodules.samplers import EpochBatchSampler, batch_loader, eval_batch_size
from musegen.codecs.chars import CharCodec
from musegen.codecs.midi import printable
from musegen.constraints import NonNegativeInt, PositiveInt, Seed, check_arguments
from musegen.errors import UserError
from musegen.runtime.random_streams import Stream, random_stream
from musegen.specs import LabelledTokenBatch, TokenBatch

MAX_BYTES = 1 << 30
"""The limit for a text file: each of its characters needs several bytes of memory."""


def read_text(path: Path) -> str:
    """Read a UTF-8 file.

    Raises `UserError` for a file that is empty, unreadable, above 1 GiB or not UTF-8.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UserError(
                f"{printable(path)}: {size:,} bytes, but a text may have at most {MAX_BYTES:,}"
            )
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as e:
        raise UserError(
            f"{printable(path)}: not UTF-8 (byte {e.start} is {e.object[e.start]:#04x})"
        ) from e
    except OSError as e:
        raise UserError(f"{printable(path)}: cannot be read ({e.strerror})") from e
    if not text.strip():
        raise UserError(f"{printable(path)}: empty")
    return text


MAX_SHOWN = 40
"""The number of characters of a text that an error shows."""


class TextDataset(Dataset[TokenBatch | LabelledTokenBatch]):
    """The indices of a batch → a padded `TokenBatch`, or `LabelledTokenBatch`."""

    def __init__(
        self, texts: list[np.ndarray], codec: CharCodec, labels: list[int] | None = None
    ) -> None:
        self.texts, self.codec, self.labels = texts, codec, labels

    def __getitems__(self, indices: list[int]) -> TokenBatch | LabelledTokenBatch:
        labels = None if self.labels is None else [self.labels[i] for i in indices]
        return self.codec.batch([self.texts[i] for i in indices], labels)


class TextSampler(EpochBatchSampler[int]):
    """Batches of texts of similar length.

    With `shuffle` every epoch draws the order of the texts; if `probabilities(epoch)` is not None,
    it draws texts with these probabilities and with replacement, as many as there are. The texts
    of `pool` batches are drawn together, sorted by length and cut into batches. Without `shuffle`
    every text comes once, the longest first.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        probabilities: Callable[[int], np.ndarray | None] = lambda epoch: None,
        pool: int = 32,
    ) -> None:
        super().__init__()
        self.lengths, self.probabilities, self.pool = np.asarray(lengths), probabilities, pool
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle

    def plan(self, epoch: int, rank: int, world: int) -> list[list[int]]:
        n, size = len(self.lengths), self.batch_size
        if not self.shuffle:
            size = eval_batch_size(n, size, world)
            order = np.argsort(-self.lengths, kind="stable")
            return [order[b : b + size].tolist() for b in range(0, n, size)][rank::world]
        rng = random_stream(Stream.EPOCHS, self.seed, epoch)
        p = self.probabilities(epoch)
        order = rng.permutation(n) if p is None else rng.choice(n, n, p=p)
        batches = []
        for first in range(0, n, self.pool * size):
            pool = order[first : first + self.pool * size]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += [pool[b : b + size].tolist() for b in range(0, len(pool), size)]
        batches = [batches[i] for i in rng.permutation(len(batches))]
        # In training all ranks must take the same number; the rest waits for another epoch.
        return batches[rank : len(batches) // world * world : world]


class CharDataModule(DataModule):
    """The texts of each split, in `texts` and `labels` after `setup`. Subclasses read them.

    Without a given codec, the codec is made from the training texts, so that `spec` and `codec`
    read the data.
    """

    pool = 32
    """The number of batches that are drawn together and sorted by length. With 1 a batch has
    texts of all lengths."""

    @check_arguments
    def __init__(
        self,
        codec: CharCodec | None,
        batch_size: PositiveInt,
        seed: Seed,
        num_workers: NonNegativeInt,
    ) -> None:
        super().__init__()
        self._codec, self.batch_size, self.seed = codec, batch_size, seed
        self.num_workers = num_workers
        self.texts: dict[str, list[str]] = {}
        self.labels: dict[str, list[int]] | None = None
        self._coded: dict[str, list[np.ndarray]] = {}

    @property
    def codec(self) -> CharCodec:
        """The given codec, or the codec made from the training texts."""
        if self._codec is None:
            self.prepare_data()
            self.setup("fit")
        assert self._codec is not None, "setup() makes a codec"
        return self._codec

    @property
    def spec(self) -> Any:
        return self.codec.spec

    def coded(self, split: str) -> list[np.ndarray]:
        """The texts of a split as class indices."""
        if split not in self._coded:
            self._coded[split] = [self.codec.encode(t) for t in self.texts[split]]
        return self._coded[split]

    def describe(self) -> str:
        counts = [f"{s} {len(self.texts[s]):,} texts" for s in SPLITS]
        return f"{', '.join(counts)}, {self.spec.vocab_size} classes"

    def train_dataloader(self) -> DataLoader:
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._loader("test")

    def sources(self, keys: list[int]) -> list[str]:
        return [repr(self.texts["train"][i][:MAX_SHOWN]) for i in keys]

    def probabilities(self, epoch: int) -> np.ndarray | None:
        """The probability of each training text in an epoch; None draws every text once."""
        return None

    def _loader(self, split: str, shuffle: bool = False) -> DataLoader:
        texts = self.coded(split)
        labels = None if self.labels is None else self.labels[split]
        lengths = [len(text) for text in texts]
        return batch_loader(
            TextDataset(texts, self.codec, labels),
            TextSampler(
                lengths, self.batch_size, self.seed, shuffle, self.probabilities, self.pool
            ),
            self.num_workers,
        )
