"""What the character data sets share: encoded texts, split, in batches of similar length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader, Dataset

from datamodules.base import SPLITS, DataModule
from datamodules.samplers import EpochBatchSampler, batch_loader, epoch_rng, shared_width
from musegen.codecs.chars import CharCodec
from musegen.codecs.midi import printable
from musegen.errors import UserError
from musegen.specs import LabelledTokenBatch, TokenBatch

MAX_BYTES = 1 << 30
"""Every character is some bytes of memory and a class in an array."""


def read_text(path: Path) -> str:
    """A UTF-8 file.

    Raises `UserError` for one that is empty, unreadable, above 1 GiB or not UTF-8.
    """
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UserError(f"{printable(path)}: {size:,} bytes, but a text may have {MAX_BYTES:,}")
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


SHOWN = 40
"""Characters of a text by which an error names it."""


class TextRows(Dataset[TokenBatch | LabelledTokenBatch]):
    """Indices of a batch → its padded `TokenBatch`, or `LabelledTokenBatch`."""

    def __init__(
        self, rows: list[np.ndarray], codec: CharCodec, labels: list[int] | None = None
    ) -> None:
        self.rows, self.codec, self.labels = rows, codec, labels

    def __getitems__(self, indices: list[int]) -> TokenBatch | LabelledTokenBatch:
        labels = None if self.labels is None else [self.labels[i] for i in indices]
        return self.codec.batch([self.rows[i] for i in indices], labels)


class TextSampler(EpochBatchSampler[int]):
    """Whole texts; those of a batch are of similar length, cut from `pool` batches drawn together.

    With `shuffle` an epoch draws every text once, or, where `probabilities` gives the texts' probabilities in
    that epoch, as many texts by chance. Otherwise every text comes once, the longest first.
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
            size = shared_width(n, size, world)
            order = np.argsort(-self.lengths, kind="stable")
            return [order[b : b + size].tolist() for b in range(0, n, size)][rank::world]
        rng = epoch_rng(self.seed, epoch)
        chance = self.probabilities(epoch)
        order = rng.permutation(n) if chance is None else rng.choice(n, n, p=chance)
        batches = []
        for first in range(0, n, self.pool * size):
            pool = order[first : first + self.pool * size]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += [pool[b : b + size].tolist() for b in range(0, len(pool), size)]
        batches = [batches[i] for i in rng.permutation(len(batches))]
        # All ranks take equally many in training: what does not go round waits for another epoch.
        return batches[rank : len(batches) // world * world : world]


class CharDataModule(DataModule):
    """Texts by split, in `texts` and `labels` after `setup`; subclasses say where they come from.

    The codec is derived from the training texts unless one is given; then asking for the spec or
    the codec reads the data.
    """

    pool = 32
    """Batches that are drawn together and cut by length; 1 mixes all lengths."""

    def __init__(
        self, codec: CharCodec | None, batch_size: int, seed: int, num_workers: int
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0:
            raise UserError(
                f"data: batch_size={batch_size} must be at least 1 and "
                f"num_workers={num_workers} not negative"
            )
        self._codec, self.batch_size, self.seed = codec, batch_size, seed
        self.num_workers = num_workers
        self.texts: dict[str, list[str]] = {}
        self.labels: dict[str, list[int]] | None = None
        self._coded: dict[str, list[np.ndarray]] = {}

    @property
    def codec(self) -> CharCodec:
        """The given codec, or that of the training texts."""
        if self._codec is None:
            self.prepare_data()
            self.setup("fit")
        assert self._codec is not None, "setup() derives a codec"
        return self._codec

    @property
    def spec(self) -> Any:
        return self.codec.spec

    def coded(self, split: str) -> list[np.ndarray]:
        """The texts of a split as classes."""
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
        return [repr(self.texts["train"][i][:SHOWN]) for i in keys]

    def probabilities(self, epoch: int) -> np.ndarray | None:
        """Each training text's chance in an epoch; None draws every text once."""
        return None

    def _loader(self, split: str, shuffle: bool = False) -> DataLoader:
        rows = self.coded(split)
        labels = None if self.labels is None else self.labels[split]
        lengths = [len(r) for r in rows]
        return batch_loader(
            TextRows(rows, self.codec, labels),
            TextSampler(
                lengths, self.batch_size, self.seed, shuffle, self.probabilities, self.pool
            ),
            self.num_workers,
        )
