"""Any UTF-8 text file, character by character."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from datamodules.base import SPLITS, Availability
from datamodules.char_data import CharDataModule, read_text
from datamodules.samplers import EpochBatchSampler, batch_loader
from musegen.codecs.chars import CharCodec, normalise
from musegen.constraints import (
    NonNegativeInt,
    OpenFraction,
    PositiveInt,
    Seed,
    check_arguments,
)
from musegen.errors import UserError
from musegen.runtime.random_streams import Stream, random_stream
from musegen.specs import LabelledTokenBatch, TokenBatch, Tokens


class Window(NamedTuple):
    """Characters `first` to `last` of a split; those before `counted` are context only."""

    first: int
    counted: int
    last: int


class TextWindowDataset(Dataset[TokenBatch | LabelledTokenBatch]):
    """The `Window`s of a batch → a `TokenBatch`; each row starts with the class of the start."""

    def __init__(self, stream: np.ndarray, codec: CharCodec) -> None:
        self.stream, self.codec = stream, codec

    def __getitems__(self, windows: list[Window]) -> TokenBatch | LabelledTokenBatch:
        batch = self.codec.batch([self.stream[w.first : w.last] for w in windows])
        for mask_T, window in zip(batch.mask_BT, windows, strict=True):
            mask_T[: window.counted - window.first] = False
        return batch


class TextWindowSampler(EpochBatchSampler[Window]):
    """Windows side by side.

    With `shuffle` every epoch draws their offset and their order. Otherwise every character
    counts once, and each window reads the window before it as context.
    """

    def __init__(
        self, length: int, window: int, batch_size: int, seed: int = 0, shuffle: bool = False
    ) -> None:
        super().__init__()
        self.length, self.window, self.batch_size = length, window, batch_size
        self.seed, self.shuffle = seed, shuffle

    def plan(self, epoch: int, rank: int, world: int) -> list[list[Window]]:
        size = self.batch_size
        windows = self._training_windows(epoch) if self.shuffle else self._evaluation_windows()
        batches = [windows[b : b + size] for b in range(0, len(windows), size)]
        # In training all ranks must take the same number of batches.
        end = len(batches) // world * world if self.shuffle else len(batches)
        return batches[rank:end:world]

    def _evaluation_windows(self) -> list[Window]:
        n, w = self.length, self.window
        return [Window(max(0, i - w), i, min(i + w, n)) for i in range(0, n, w)]

    def _training_windows(self, epoch: int) -> list[Window]:
        n, w = self.length, self.window
        rng = random_stream(Stream.EPOCHS, self.seed, epoch)
        # Every epoch has the same number of windows: the offset is at most the remainder.
        count = max(1, n // w)
        offset = int(rng.integers(0, max(0, n - count * w) + 1))
        starts = offset + w * rng.permutation(count)
        return [Window(i, i, min(i + w, n)) for i in starts.tolist()]


class TextFile(CharDataModule):
    """The characters of one file: the first part for training, the last parts held out.

    - path: the file, in UTF-8.
    - ascii: letters without their marks; otherwise Unicode in NFC.
    - min_count: characters that occur less often in the training part share one class, that of
      unknown characters.
    - window: characters predicted per batch row.
    - batch_size: batch rows.
    - val_fraction, test_fraction: fractions of the file. Validation comes before test, both at
      the end of the file.

    Raises `UserError` for a file that is missing, empty, not UTF-8 or too short to be split.
    """

    yields = (Tokens,)

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        return Availability("data.path=FILE", None)

    @check_arguments
    def __init__(
        self,
        path: Path | None = None,
        ascii: bool = False,
        min_count: NonNegativeInt = 2,
        window: PositiveInt = 128,
        batch_size: PositiveInt = 32,
        val_fraction: OpenFraction = 0.05,
        test_fraction: OpenFraction = 0.05,
        codec: CharCodec | None = None,
        seed: Seed = 1,
        num_workers: NonNegativeInt = 0,
    ) -> None:
        super().__init__(codec, batch_size, seed, num_workers)
        self.path, self.ascii, self.min_count = path, ascii, min_count
        self.window, self.val_fraction, self.test_fraction = window, val_fraction, test_fraction

    def setup(self, stage: str | None = None) -> None:
        if self.texts:
            return
        if self.path is None:
            raise UserError("data=text needs a file: add data.path=FILE")
        path = self.path.expanduser()
        ascii = self.ascii if self._codec is None else self._codec.ascii
        self.texts = self._split(path, normalise(read_text(path), ascii))
        if self._codec is None:
            self._codec = CharCodec.of(self.texts["train"], self.min_count, end=False, ascii=ascii)

    def _split(self, path: Path, text: str) -> dict[str, list[str]]:
        n = len(text)
        n_val, n_test = (max(1, round(n * f)) for f in (self.val_fraction, self.test_fraction))
        n_train = n - n_val - n_test
        if n_train < 2:
            raise UserError(
                f"{path}: {n} character{'s' if n != 1 else ''} cannot be split into train, "
                "validation and test"
            )
        return {
            "train": [text[:n_train]],
            "val": [text[n_train : n_train + n_val]],
            "test": [text[n_train + n_val :]],
        }

    def describe(self) -> str:
        counts = [f"{s} {len(self.texts[s][0]):,} characters" for s in SPLITS]
        return f"{', '.join(counts)}, {self.spec.vocab_size} classes"

    def _loader(self, split: str, shuffle: bool = False) -> DataLoader:
        stream = self.coded(split)[0]
        batches = TextWindowSampler(len(stream), self.window, self.batch_size, self.seed, shuffle)
        return batch_loader(TextWindowDataset(stream, self.codec), batches, self.num_workers)
