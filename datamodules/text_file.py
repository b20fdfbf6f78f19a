"""Any UTF-8 text file, character by character."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from datamodules.base import SPLITS
from datamodules.char_data import CharDataModule, read_text
from datamodules.samplers import EpochBatchSampler, batch_loader, epoch_rng
from musegen.codecs.chars import CharCodec, normalise
from musegen.errors import UserError
from musegen.specs import LabelledTokenBatch, TokenBatch, Tokens


class Window(NamedTuple):
    """Characters `first` to `last` of a split; those before `counted` are only read."""

    first: int
    counted: int
    last: int


class WindowRows(Dataset[TokenBatch | LabelledTokenBatch]):
    """Turns the `Window`s of a batch into a `TokenBatch`; each begins with the start's class."""

    def __init__(self, stream: np.ndarray, codec: CharCodec) -> None:
        self.stream, self.codec = stream, codec

    def __getitems__(self, windows: list[Window]) -> TokenBatch | LabelledTokenBatch:
        batch = self.codec.batch([self.stream[w.first : w.last] for w in windows])
        for mask_T, window in zip(batch.mask_BT, windows, strict=True):
            mask_T[: window.counted - window.first] = False
        return batch


class TextWindowSampler(EpochBatchSampler[Window]):
    """Windows side by side: with `shuffle` at another phase in every epoch, in another order.

    Otherwise every character counts once, and the window before is read for its context.
    """

    def __init__(
        self, length: int, window: int, batch_size: int, seed: int = 0, shuffle: bool = False
    ) -> None:
        super().__init__()
        self.length, self.window, self.batch_size = length, window, batch_size
        self.seed, self.shuffle = seed, shuffle

    def plan(self, epoch: int, rank: int, world: int) -> list[list[Window]]:
        n, w, size = self.length, self.window, self.batch_size
        if not self.shuffle:
            windows = [Window(max(0, i - w), i, min(i + w, n)) for i in range(0, n, w)]
            return [windows[b : b + size] for b in range(0, len(windows), size)][rank::world]
        rng = epoch_rng(self.seed, epoch)
        # As many windows in every epoch: the phase moves them only within what is left over.
        count = max(1, n // w)
        phase = int(rng.integers(0, max(0, n - count * w) + 1))
        starts = phase + w * rng.permutation(count)
        windows = [Window(i, i, min(i + w, n)) for i in starts.tolist()]
        batches = [windows[b : b + size] for b in range(0, count, size)]
        return batches[rank : len(batches) // world * world : world]


class TextFile(CharDataModule):
    """The characters of one file: its beginning for training, its last parts held out.

    - path: the file. ascii, min_count: as for names; characters too rare in the training part
      share the class of unknown ones.
    - window: characters predicted per row; batch_size: rows.
    - val_fraction, test_fraction: shares of the file, in this order at its end.

    Raises `UserError` for a file that is empty, not UTF-8 or too short to be split.
    """

    yields = (Tokens,)

    def __init__(
        self,
        path: Path | None = None,
        ascii: bool = False,
        min_count: int = 2,
        window: int = 128,
        batch_size: int = 32,
        val_fraction: float = 0.05,
        test_fraction: float = 0.05,
        codec: CharCodec | None = None,
        seed: int = 1,
        num_workers: int = 0,
    ) -> None:
        super().__init__(codec, batch_size, seed, num_workers)
        if window < 1 or min(val_fraction, test_fraction) <= 0:
            raise UserError(
                f"data: window={window} must be at least 1, val_fraction={val_fraction} and "
                f"test_fraction={test_fraction} above 0"
            )
        self.path, self.ascii, self.min_count = path, ascii, min_count
        self.window, self.val_fraction, self.test_fraction = window, val_fraction, test_fraction

    def setup(self, stage: str | None = None) -> None:
        if self.texts:
            return
        if self.path is None:
            raise UserError("data=text needs a file: add data.path=FILE")
        path = Path(self.path).expanduser()
        ascii = self.ascii if self._codec is None else self._codec.ascii
        text = normalise(read_text(path), ascii)
        n = len(text)
        n_val, n_test = (max(1, round(n * f)) for f in (self.val_fraction, self.test_fraction))
        n_train = n - n_val - n_test
        if n_train < 2:
            raise UserError(
                f"{path}: {n} character{'s' if n != 1 else ''} cannot be split into train, "
                "validation and test"
            )
        self.texts = {
            "train": [text[:n_train]],
            "val": [text[n_train : n_train + n_val]],
            "test": [text[n_train + n_val :]],
        }
        if self._codec is None:
            self._codec = CharCodec.of(self.texts["train"], self.min_count, end=False, ascii=ascii)

    def describe(self) -> str:
        counts = [f"{s} {len(self.texts[s][0]):,} characters" for s in SPLITS]
        return f"{', '.join(counts)}, {self.spec.vocab_size} classes"

    def _loader(self, split: str, shuffle: bool = False) -> DataLoader:
        stream = self.coded(split)[0]
        batches = TextWindowSampler(len(stream), self.window, self.batch_size, self.seed, shuffle)
        return batch_loader(WindowRows(stream, self.codec), batches, self.num_workers)
