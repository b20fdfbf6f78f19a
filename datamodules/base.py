"""The base class of the data modules, and the folders of data and caches."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import platformdirs
import pytorch_lightning as pl
import torch

from datamodules.splits import SPLITS, Record, describe_changes, folder_split, split_pieces
from musegen.codecs.midi import MICROSECONDS_PER_BEAT
from musegen.errors import UserError
from musegen.runtime.atomic import write_json
from musegen.runtime.random_streams import Stream, random_stream
from musegen.specs import Spec

MAX_NAMES = 5
"""The number of pieces of a batch that an error names."""
MAX_NOTES = 400_000
"""Notes of a split with which samples are compared. All of the benchmark's sets have fewer."""


class Availability(NamedTuple):
    """What a data set needs, and whether it is here; None if only the user can say."""

    needs: str
    here: bool | None


class DataModule(pl.LightningDataModule):
    """Knows its spec and codec without reading a file; `prepare_data` and `setup` read files."""

    yields: ClassVar[tuple[type[Spec], ...]]
    """The kinds of spec that this class can have, one for each of its views."""
    licence: ClassVar[str] = "not stated"
    """The licence of the data, for the card of a model that was trained on them."""
    codec: Any = None
    """Decodes a model's output to music or text. The checkpoint contains its settings."""

    def __init__(self) -> None:
        super().__init__()
        self.record: Record = {}
        """The pieces of each split in an earlier run; empty for a new run."""
        self.pieces_by_split: Record = {}
        """The pieces of each split, after `setup`, if the data are split by piece."""
        self.split_changes = ""
        """One line on how the pieces differ from those of `record`, after `setup`."""
        self._missing_record: Path | None = None
        """The file of a record that does not exist."""

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        """What the data set with these settings needs, without reading or downloading it."""
        return Availability("nothing", True)

    @property
    @abstractmethod
    def spec(self) -> Spec:
        """The kind and the sizes of the batches."""

    @abstractmethod
    def describe(self) -> str:
        """One line about the splits, after `setup`."""

    def keep_split(self, file: Path) -> None:
        """Keep the pieces that this file names in their splits. Call it before `setup`.

        If the file does not exist and the data are split at random, `split_changes` says so: a
        run of an older version had another split. Raises `UserError` for a damaged file.
        """
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            self.record = {s: {str(k): str(n) for k, n in record[s].items()} for s in SPLITS}
        except FileNotFoundError:
            self._missing_record = file
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise UserError(f"{file}: not the record of a split ({type(e).__name__}: {e})") from e

    def write_split(self, file: Path) -> None:
        """Write the pieces of each split, if the data are split by piece. Call it after `setup`.

        Recorded pieces that are missing now stay in the record, because they may be added again.
        """
        if self.pieces_by_split:
            write_json(
                file, {s: {**self.record.get(s, {}), **self.pieces_by_split[s]} for s in SPLITS}
            )

    def split_of(self, name: str) -> str | None:
        """The split of a piece according to its name, or None."""
        return folder_split(name)

    def compute_split(
        self,
        names: Sequence[str],
        keys: Sequence[str],
        val_fraction: float,
        test_fraction: float,
        seed: int,
        record: Record,
    ) -> dict[str, list[int]]:
        """The indices of the pieces of each split (`split_pieces`)."""
        declared = [self.split_of(name) for name in names]
        return split_pieces(keys, val_fraction, test_fraction, seed, declared, record)

    def split(
        self,
        names: Sequence[str],
        keys: Sequence[str],
        val_fraction: float,
        test_fraction: float,
        seed: int,
    ) -> dict[str, list[int]]:
        """The indices of the pieces of each split (`compute_split`), also kept for the record."""
        declared = [self.split_of(name) for name in names]

        def compute(record: Record) -> dict[str, list[int]]:
            return self.compute_split(names, keys, val_fraction, test_fraction, seed, record)

        def as_record(split: dict[str, list[int]]) -> Record:
            return {s: {keys[i]: names[i] for i in split[s]} for s in SPLITS}

        split = compute(self.record)
        self.pieces_by_split = as_record(split)
        if self._missing_record and (None in declared or set(declared) != set(SPLITS)):
            self.split_changes = (
                f"data: {self._missing_record} does not exist, so the split of the run is unknown: "
                "some of its training pieces may be in test now"
            )
        if self.record:
            try:
                without_record = as_record(compute({}))
            except UserError:  # too few pieces for a split without the record
                without_record = self.pieces_by_split
            self.split_changes = describe_changes(self.record, self.pieces_by_split, without_record)
        return split

    def music(self, split: str) -> Sequence[Any]:
        """The pieces of a split, for `to_notes`, after `setup`; none if the data are not music."""
        return []

    def to_notes(self, piece: Any) -> np.ndarray:
        """A piece of `music` as `NOTES`."""
        raise NotImplementedError

    def notes(self, split: str) -> list[np.ndarray]:
        """The pieces of a split as `NOTES`, in order, after `setup`; none if they are not music.

        Of a large split only a random part: pieces until they have `MAX_NOTES` notes.
        """
        pieces, total = self.music(split), 0
        chosen: dict[int, np.ndarray] = {}
        for i in random_stream(Stream.MUSIC_OVERLAP, 0, 1).permutation(len(pieces)).tolist():
            chosen[i] = self.to_notes(pieces[i])
            total += len(chosen[i])
            if total >= MAX_NOTES:
                break
        return [chosen[i] for i in sorted(chosen)]

    def sources(self, keys: list[Any]) -> list[str]:
        """The names of the pieces that the keys of a training batch refer to."""
        return [str(key) for key in keys]

    def pieces_of(self, index: int) -> str:
        """The pieces in training batch `index` of this process in the current epoch."""
        assert self.trainer is not None
        batches = self.trainer.train_dataloader.batch_sampler  # type: ignore[union-attr]
        names = list(dict.fromkeys(self.sources(batches.current_plan()[index])))
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        return ", ".join(names[:MAX_NAMES]) + more

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        # Batches are made on the CPU; Lightning would check every tensor in them.
        if device.type == "cpu":
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    @property
    def beat(self) -> float:
        """The length of a beat in seconds, for metrics of rhythm."""
        return MICROSECONDS_PER_BEAT / 1e6

    @property
    def frame(self) -> float | None:
        """The length of a frame in seconds, if the pieces are piano-rolls."""
        return None


def data_root(root: Path | None, folder: str) -> Path | None:
    """The folder `root`, or else `folder` under MUSEGEN_DATA if it exists; None otherwise.

    Raises `UserError` if `root` does not exist.
    """
    if root is not None:
        root = Path(root).expanduser()
        if not root.exists():
            raise UserError(f"data.root={root}: no such folder")
        return root
    data_folder = os.environ.get("MUSEGEN_DATA")
    if data_folder and (Path(data_folder) / folder).exists():
        return Path(data_folder) / folder
    return None


def has_file(name: str, data_folder: str, cache_name: str) -> bool:
    """Whether a file is below `data_folder` of MUSEGEN_DATA, or in the cache."""
    root = data_root(None, data_folder)
    folder = cache_path(None, cache_name) if root is None else root
    return any(folder.rglob(f"{name}*"))


def cache_path(cache_dir: Path | None, name: str) -> Path:
    """The path of the folder `name` in the cache, which need not exist."""
    root = cache_dir or os.environ.get("MUSEGEN_CACHE") or platformdirs.user_cache_dir("musegen")
    return Path(root).expanduser() / name


def cache_folder(cache_dir: Path | None, name: str) -> Path:
    """Create the folder `name` under data.cache_dir, MUSEGEN_CACHE or the user's cache folder.

    Raises `UserError` if it cannot be created.
    """
    folder = cache_path(cache_dir, name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise UserError(
            f"{folder}: cannot be written ({e.strerror}); set data.cache_dir or MUSEGEN_CACHE"
        ) from e
    return folder
