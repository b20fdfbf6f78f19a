"""What the data modules share: where files live, how pieces are split, how epochs are drawn."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import platformdirs
import pytorch_lightning as pl
import torch

from musegen.codecs.midi import MICROSECONDS_PER_BEAT
from musegen.errors import UserError
from musegen.runtime.distributed import this_rank
from musegen.specs import Spec

SPLITS = ("train", "val", "test")
NAMED = 5
"""Pieces of a batch that an error names."""
SPLIT_FOLDERS = {
    "train": "train",
    "valid": "val",
    "validation": "val",
    "val": "val",
    "test": "test",
}


class DataModule(pl.LightningDataModule):
    """Knows its spec and codec without touching a file; `prepare_data` and `setup` do the work."""

    yields: ClassVar[tuple[type[Spec], ...]]
    """The kinds of spec this class can give, one for each of its views."""
    codec: Any = None
    """What turns a model's output back into music or text; travels in the checkpoint."""

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """Kind and sizes of what the batches hold."""

    @abstractmethod
    def describe(self) -> str:
        """One line on the splits, after `setup`."""

    def training_notes(self) -> list[np.ndarray]:
        """The training pieces as `NOTES`, after `setup`; none where the data is no music."""
        return []

    def sources(self, keys: list[Any]) -> list[str]:
        """Which pieces the keys of a training batch stand for."""
        return [str(key) for key in keys]

    def pieces_of(self, index: int) -> str:
        """What the current epoch's training batch of this process was made from."""
        assert self.trainer is not None
        batches = self.trainer.train_dataloader.batch_sampler  # type: ignore[union-attr]
        names = list(dict.fromkeys(self.sources(batches.plan(batches.epoch, *this_rank())[index])))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return ", ".join(names[:NAMED]) + more

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        # Batches are made on the CPU; Lightning would take them apart to find that out.
        if device.type == "cpu":
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    @property
    def beat(self) -> float:
        """Seconds that a beat of its music lasts, for metrics of rhythm."""
        return MICROSECONDS_PER_BEAT / 1e6


def data_root(root: Path | None, folder: str) -> Path | None:
    """The folder the user named, else `folder` under MUSEGEN_DATA where that exists."""
    if root is not None:
        root = Path(root).expanduser()
        if not root.exists():
            raise UserError(f"data.root={root}: no such folder")
        return root
    shared = os.environ.get("MUSEGEN_DATA")
    if shared and (Path(shared) / folder).exists():
        return Path(shared) / folder
    return None


def cache_folder(cache_dir: Path | None, name: str) -> Path:
    """`name` under data.cache_dir, MUSEGEN_CACHE or the platform's cache folder; created."""
    root = cache_dir or os.environ.get("MUSEGEN_CACHE") or platformdirs.user_cache_dir("musegen")
    folder = Path(root).expanduser() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(
            f"{folder}: cannot be written ({e.strerror}); set data.cache_dir or MUSEGEN_CACHE"
        ) from e
    return folder


def split_pieces(
    names: Sequence[str], val_fraction: float, test_fraction: float, seed: int
) -> dict[str, list[int]]:
    """Indices of the pieces of each split; a piece is never cut.

    Names that begin with train/, valid/ (or val/, validation/) and test/ say themselves where
    they belong. Otherwise the order is by a hash of (seed, name), so that a piece stays on its
    side when others come or go, and each split has at least one piece.
    """
    for key, fraction in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 < fraction < 1:
            raise UserError(f"data.{key}={fraction}: must lie between 0 and 1")
    folders = [SPLIT_FOLDERS.get(name.split("/")[0].lower()) for name in names]
    if None not in folders and set(folders) == set(SPLITS):
        return {s: [i for i, f in enumerate(folders) if f == s] for s in SPLITS}

    def drawn(i: int) -> bytes:
        return hashlib.sha256(f"{seed}/{names[i]}".encode()).digest()

    n = len(names)
    n_val, n_test = max(1, round(n * val_fraction)), max(1, round(n * test_fraction))
    if n < 3 or n_val + n_test >= n:
        raise UserError(
            f"{n} usable piece{'s' if n != 1 else ''} cannot be split by piece into train, "
            "validation and test: 3 at least are needed, or smaller data.val_fraction and "
            "data.test_fraction"
        )
    order = sorted(range(n), key=drawn)
    held_out = n_val + n_test
    return {
        "test": sorted(order[:n_test]),
        "val": sorted(order[n_test:held_out]),
        "train": sorted(order[held_out:]),
    }
