"""What the piano-roll data sets share: rolls by split → chunks, whole pieces or single frames."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.base import SPLITS, DataModule
from datamodules.frames import EVAL_ROWS, Rows, RowSampler
from datamodules.samplers import EpochBatchSampler, batch_loader, epoch_rng, shared_width
from musegen.codecs.roll_codec import RollCodec
from musegen.errors import UserError
from musegen.specs import FrameBatch, Frames, RollBatch, Rolls, Spec

EVAL_FRAMES = 1 << 14
"""Frames of an evaluation batch at most, padding included; a longer piece comes alone."""


class Chunk(NamedTuple):
    """Frames `first` to `last` of a piece, moved up by `shift` semitones."""

    piece: int
    first: int
    last: int
    shift: int


def frames(batch: list[Chunk]) -> int:
    """How many a batch has, padding not counted."""
    return sum(chunk.last - chunk.first for chunk in batch)


class RollRows(Dataset[RollBatch]):
    """Turns the `Chunk`s of a batch into a `RollBatch`, padded to the longest."""

    def __init__(self, rolls: list[np.ndarray]) -> None:
        self.rolls = rolls

    def __getitems__(self, chunks: list[Chunk]) -> RollBatch:
        lengths_B = torch.tensor([c.last - c.first for c in chunks])
        mask_BT = torch.arange(int(lengths_B.max())) < lengths_B[:, None]
        x_BTD = torch.zeros(*mask_BT.shape, self.rolls[0].shape[1])
        for x_TD, c in zip(x_BTD, chunks, strict=True):
            cut_TD = self.rolls[c.piece][c.first : c.last]
            moved_TD = np.roll(cut_TD, c.shift, axis=1) if c.shift else cut_TD
            x_TD[: len(cut_TD)] = torch.from_numpy(moved_TD)
        return RollBatch(x_BTD, mask_BT)


class ChunkSampler(EpochBatchSampler[Chunk]):
    """The pieces in a new order every epoch, cut into chunks of `chunk_length` frames at most.

    Batches of one chunk go through the pieces one after the other, as the tutorial does; the
    chunks of a greater batch lie far apart in that order, and so come from different pieces.
    shift_N2 is how far each piece may be moved down and up.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        chunk_length: int | None,
        batch_size: int,
        seed: int,
        shift_N2: np.ndarray,
    ) -> None:
        super().__init__()
        self.lengths, self.chunk_length, self.batch_size = lengths, chunk_length, batch_size
        self.seed, self.shift_N2 = seed, shift_N2

    def plan(self, epoch: int, rank: int, world: int) -> list[list[Chunk]]:
        rng = epoch_rng(self.seed, epoch)
        shift_N = rng.integers(-self.shift_N2[:, 0], self.shift_N2[:, 1], endpoint=True)
        chunks = []
        for i in rng.permutation(len(self.lengths)).tolist():
            length = self.lengths[i]
            step = self.chunk_length or length
            for first in range(0, length, step):
                chunks.append(Chunk(i, first, min(first + step, length), int(shift_N[i])))
        n = -(-len(chunks) // self.batch_size)
        batches = [chunks[b::n] for b in range(n)]
        if world == 1:
            return batches
        # All ranks take equally many in training: what does not go round waits for another epoch.
        # And they wait for one another in every update: batches as long as each other go together.
        batches = sorted(batches[: n // world * world], key=frames)
        together = [batches[i : i + world] for i in range(0, len(batches), world)]
        return [together[i][rank] for i in rng.permutation(len(together))]


class PieceSampler(EpochBatchSampler[Chunk]):
    """Whole pieces, since a recurrent model needs all that went before; the longest first."""

    def __init__(self, lengths: Sequence[int]) -> None:
        super().__init__()
        self.lengths = np.asarray(lengths)

    def plan(self, epoch: int, rank: int, world: int) -> list[list[Chunk]]:
        order = np.argsort(-self.lengths, kind="stable").tolist()
        batches, b = [], 0
        while b < len(order):
            width = EVAL_FRAMES // int(self.lengths[order[b]])
            width = shared_width(len(order), width, world)
            batches.append([Chunk(i, 0, int(self.lengths[i]), 0) for i in order[b : b + width]])
            b += width
        return batches[rank::world]


class FrameRows(Dataset[FrameBatch]):
    """Single frames, each moved by up to `transpose` semitones either way within the roll."""

    def __init__(self, frames_ND: np.ndarray, transpose: int) -> None:
        self.frames_ND, self.transpose = frames_ND, transpose

    def __getitems__(self, batch: list[Rows]) -> FrameBatch:
        (rows,) = batch
        x_BD = self.frames_ND[rows.indices]
        if self.transpose:
            shift_B2 = room(x_BD, self.transpose)
            rng = np.random.default_rng(rows.seed)
            shift_B = rng.integers(-shift_B2[:, 0], shift_B2[:, 1], endpoint=True)
            # A frame may move only as far as its own notes leave room: nothing wraps round.
            from_BD = (np.arange(x_BD.shape[1]) - shift_B[:, None]) % x_BD.shape[1]
            x_BD = np.take_along_axis(x_BD, from_BD, axis=1)
        return FrameBatch(torch.from_numpy(x_BD).float())


def room(sounds_ND: np.ndarray, most: int) -> np.ndarray:
    """(N, 2): by how many columns, `most` at most, each row can move down and up; 0 if silent."""
    below_N, above_N = sounds_ND.argmax(1), sounds_ND[:, ::-1].argmax(1)
    return np.minimum(np.stack([below_N, above_N], axis=1), most)


class PianoRolls(DataModule):
    """Piano-rolls by split; subclasses say where they come from.

    - view: `rolls` yields sequences; `frames` yields single frames, shuffled in training, that
      know nothing of their neighbours.
    - dt, pitch_range, repeats: as in `RollCodec`.
    - chunk_length: frames of a training chunk at most; null keeps the pieces whole.
    - batch_size: chunks (16 by default; the tutorial takes 1) or frames (100 by default) an update.
    - transpose: training pieces, in every epoch anew, are moved by up to so many semitones
      either way, as far as all their notes stay in range. 0 switches it off.

    Validation and test read whole pieces, every frame counted once and padding never.
    """

    views: ClassVar[dict[str, type[Spec]]] = {"rolls": Rolls, "frames": Frames}
    yields = tuple(views.values())

    def __init__(
        self,
        view: Literal["rolls", "frames"] = "rolls",
        dt: float = 0.3,
        pitch_range: tuple[int, int] = (21, 109),
        repeats: Literal["sustain", "retrigger"] = "sustain",
        chunk_length: int | None = 100,
        batch_size: int | None = None,
        transpose: int = 0,
        seed: int = 1,
        num_workers: int = 0,
        cache_dir: Path | None = None,
    ) -> None:
        super().__init__()
        self.rolls_codec = RollCodec(pitch_range, dt, repeats)
        self.batch_size = {"rolls": 16, "frames": 100}[view] if batch_size is None else batch_size
        if min(self.batch_size, 1 if chunk_length is None else chunk_length) < 1:
            raise UserError(
                f"data: batch_size={batch_size} and chunk_length={chunk_length} must be at least 1"
            )
        if min(transpose, num_workers) < 0:
            raise UserError(
                f"data: transpose={transpose} and num_workers={num_workers} must not be negative"
            )
        self.view, self.chunk_length, self.transpose = view, chunk_length, transpose
        self.seed, self.num_workers, self.cache_dir = seed, num_workers, cache_dir
        self.rolls: dict[str, list[np.ndarray]] = {}
        """(T, P) uint8 arrays of 0 and 1 by split, after `setup`."""

    @property
    def codec(self) -> RollCodec | None:
        """None for single frames: what an RBM writes of them are pictures, which need no codec."""
        return self.rolls_codec if self.view == "rolls" else None

    @property
    def spec(self) -> Rolls | Frames:
        pitches = self.rolls_codec.spec.pitches
        return Rolls(pitches) if self.view == "rolls" else Frames(pitches)

    @abstractmethod
    def read(self) -> dict[str, list[np.ndarray]]:
        """The rolls of each split, (T, P) uint8 of 0 and 1, T ≥ 1."""

    def prepare_data(self) -> None:
        self.setup()  # downloads or converts into the cache, once per node

    def setup(self, stage: str | None = None) -> None:
        if not self.rolls:
            self.rolls = self.read()

    def describe(self) -> str:
        counts = [
            f"{s} {len(self.rolls[s])} pieces / {sum(map(len, self.rolls[s])):,} frames"
            for s in SPLITS
        ]
        return ", ".join(counts)

    def sources(self, keys: list[Any]) -> list[str]:
        return [
            f"training piece {key.piece} frames {key.first} to {key.last}"
            if isinstance(key, Chunk)
            else key.named()
            for key in keys
        ]

    def training_notes(self) -> list[np.ndarray]:
        return [self.rolls_codec.decode(roll_TP) for roll_TP in self.rolls["train"]]

    @property
    def beat(self) -> float:
        """Two frames: an eighth note is what most of these rolls give a frame."""
        return 2 * self.rolls_codec.dt

    def train_dataloader(self) -> DataLoader:
        if self.view == "frames":
            return self._frame_loader("train", training=True)
        rolls = self.rolls["train"]
        sounds_ND = np.stack([roll_TD.any(0) for roll_TD in rolls])
        batches = ChunkSampler(
            [len(r) for r in rolls],
            self.chunk_length,
            self.batch_size,
            self.seed,
            room(sounds_ND, self.transpose),
        )
        return batch_loader(RollRows(rolls), batches, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> DataLoader:
        if self.view == "frames":
            return self._frame_loader(split, training=False)
        rolls = self.rolls[split]
        batches = PieceSampler([len(r) for r in rolls])
        return batch_loader(RollRows(rolls), batches, self.num_workers)

    def _frame_loader(self, split: str, training: bool) -> DataLoader:
        frames_ND = np.concatenate(self.rolls[split])
        width = self.batch_size if training else EVAL_ROWS
        if training and len(frames_ND) < width:
            raise UserError(f"data.batch_size={width}: there are {len(frames_ND):,} frames")
        rows = FrameRows(frames_ND, self.transpose if training else 0)
        batches = RowSampler(len(frames_ND), width, self.seed, training, shuffle=training)
        return batch_loader(rows, batches, self.num_workers)
