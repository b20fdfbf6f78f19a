"""What the data modules share: where files live, how pieces are split, how epochs are drawn."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import platformdirs
import pytorch_lightning as pl
import torch

from datamodules.splits import SPLITS, Record, changes, folder_side, split_pieces
from musegen.codecs.midi import MICROSECONDS_PER_BEAT
from musegen.errors import UserError
from musegen.runtime.atomic import write_json
from musegen.runtime.distributed import this_rank
from musegen.specs import Spec

NAMED = 5
"""Pieces of a batch that an error names."""


class DataModule(pl.LightningDataModule):
    """Knows its spec and codec without touching a file; `prepare_data` and `setup` do the work."""

    yields: ClassVar[tuple[type[Spec], ...]]
    """The kinds of spec this class can give, one for each of its views."""
    codec: Any = None
    """What turns a model's output back into music or text; travels in the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.record: Record = {}
        """Which pieces an earlier run had in which split; empty for a new run."""
        self.pieces_by_split: Record = {}
        """After `setup`, of data that are split by piece: {"train": {key: name}, "val": …, …}."""
        self.split_changes = ""
        """After `setup`, one line on how the pieces differ from those of `record`."""
        self._unrecorded: Path | None = None
        """Where a record was looked for and is none."""

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """Kind and sizes of what the batches hold."""

    @abstractmethod
    def describe(self) -> str:
        """One line on the splits, after `setup`."""

    # --- The split of an earlier run ----------------------------------------------------------

    def keep_split(self, file: Path) -> None:
        """Before `setup`: pieces that the file names keep the side they had when it was written.

        Without such a file `split_changes` says so, for data that are split by the pieces' own
        numbers: a run of an older version had another split. Raises `UserError` for a damaged one.
        """
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            self.record = {s: {str(k): str(n) for k, n in record[s].items()} for s in SPLITS}
        except FileNotFoundError:
            self._unrecorded = file
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise UserError(f"{file}: not the record of a split ({type(e).__name__}: {e})") from e

    def write_split(self, file: Path) -> None:
        """After `setup`: write which pieces are in which split, if they were split by piece.

        What is on record stays there, pieces that have gone too: they may come back.
        """
        if self.pieces_by_split:
            write_json(
                file, {s: {**self.record.get(s, {}), **self.pieces_by_split[s]} for s in SPLITS}
            )

    def side_of(self, name: str) -> str | None:
        """The split that a piece's name states; None where it states none."""
        return folder_side(name)

    def split(
        self,
        names: Sequence[str],
        keys: Sequence[str],
        val_fraction: float,
        test_fraction: float,
        seed: int,
    ) -> dict[str, list[int]]:
        """Indices of the pieces of each split (`split_pieces`), noted for the run's record."""
        sides = [self.side_of(name) for name in names]

        def divided(record: Record) -> dict[str, list[int]]:
            return split_pieces(keys, val_fraction, test_fraction, seed, sides, record)

        def named(split: dict[str, list[int]]) -> Record:
            return {s: {keys[i]: names[i] for i in split[s]} for s in SPLITS}

        split = divided(self.record)
        self.pieces_by_split = named(split)
        if self._unrecorded and (None in sides or set(sides) != set(SPLITS)):
            self.split_changes = (
                f"data: there is no {self._unrecorded}, where a run notes its split: if it was "
                "trained on these pieces, some of its training pieces may be in the test now"
            )
        if self.record:
            try:
                alone = named(divided({}))
            except UserError:  # too few pieces for a split of their own
                alone = self.pieces_by_split
            self.split_changes = changes(self.record, self.pieces_by_split, alone)
        return split

    # -------------------------------------------------------------------------------------------

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
