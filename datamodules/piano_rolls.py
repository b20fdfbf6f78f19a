"""The base of the piano-roll data sets: rolls → chunks, whole pieces or single frames."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.base import SPLITS, DataModule
from datamodules.frames import EVAL_BATCH_SIZE, ExampleIndices, RowSampler
from datamodules.samplers import EpochBatchSampler, batch_loader, eval_batch_size
from musegen.codecs.roll_codec import RollCodec
from musegen.constraints import NonNegativeInt, PositiveInt, Seed, check_arguments
from musegen.errors import UserError
from musegen.runtime.random_streams import Stream, random_stream
from musegen.specs import FrameBatch, Frames, RollBatch, Rolls, Spec

EVAL_FRAMES = 1 << 14
"""The largest number of frames of an evaluation batch, with padding. A longer piece is a batch
by itself."""


class Chunk(NamedTuple):
    """Frames `first` to `last` of a piece, transposed up by `shift` semitones."""

    piece: int
    first: int
    last: int
    shift: int


def count_frames(batch: list[Chunk]) -> int:
    """The number of frames of a batch, without padding."""
    return sum(chunk.last - chunk.first for chunk in batch)


class RollDataset(Dataset[RollBatch]):
    """The `Chunk`s of a batch → a `RollBatch`, padded to the longest chunk."""

    def __init__(self, rolls: list[np.ndarray]) -> None:
        self.rolls = rolls

    def __getitems__(self, chunks: list[Chunk]) -> RollBatch:
        lengths_B = torch.tensor([c.last - c.first for c in chunks])
        mask_BT = torch.arange(int(lengths_B.max())) < lengths_B[:, None]
        x_BTD = torch.zeros(*mask_BT.shape, self.rolls[0].shape[1])
        for x_TD, c in zip(x_BTD, chunks, strict=True):
            roll_TD = self.rolls[c.piece][c.first : c.last]
            if c.shift:
                roll_TD = np.roll(roll_TD, c.shift, axis=1)
            x_TD[: len(roll_TD)] = torch.from_numpy(roll_TD)
        return RollBatch(x_BTD, mask_BT)


class ChunkSampler(EpochBatchSampler[Chunk]):
    """The pieces in a new order in every epoch, cut into chunks of at most `chunk_length` frames.

    With `batch_size` 1 the chunks are in the order of the pieces, as in the tutorial. The chunks
    of a larger batch are far apart in that order, so that they are from different pieces.
    shift_N2 is the largest transposition of each piece, down and up.
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
        rng = random_stream(Stream.EPOCHS, self.seed, epoch)
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
        # All ranks must take the same number of batches; the rest waits for another epoch. The
        # ranks wait for each other in every update, so they get batches of similar length.
        batches = sorted(batches[: n // world * world], key=count_frames)
        groups = [batches[i : i + world] for i in range(0, len(batches), world)]
        return [groups[i][rank] for i in rng.permutation(len(groups))]


class PieceSampler(EpochBatchSampler[Chunk]):
    """Whole pieces, because a recurrent model needs all frames before; the longest first."""

    def __init__(self, lengths: Sequence[int]) -> None:
        super().__init__()
        self.lengths = np.asarray(lengths)

    def plan(self, epoch: int, rank: int, world: int) -> list[list[Chunk]]:
        order = np.argsort(-self.lengths, kind="stable").tolist()
        batches, first = [], 0
        while first < len(order):
            size = EVAL_FRAMES // int(self.lengths[order[first]])
            size = eval_batch_size(len(order), size, world)
            pieces = order[first : first + size]
            batches.append([Chunk(i, 0, int(self.lengths[i]), 0) for i in pieces])
            first += size
        return batches[rank::world]


class FrameDataset(Dataset[FrameBatch]):
    """Single frames, each transposed at random by up to `transpose` semitones up or down."""

    def __init__(self, frames_ND: np.ndarray, transpose: int) -> None:
        self.frames_ND, self.transpose = frames_ND, transpose

    def __getitems__(self, keys: list[ExampleIndices]) -> FrameBatch:
        (examples,) = keys
        x_BD = self.frames_ND[examples.indices]
        if self.transpose:
            shift_B2 = transposition_limits(x_BD, self.transpose)
            shift_B = examples.rng().integers(-shift_B2[:, 0], shift_B2[:, 1], endpoint=True)
            # The limits keep all notes in the roll, so no note wraps around its edge.
            from_BD = (np.arange(x_BD.shape[1]) - shift_B[:, None]) % x_BD.shape[1]
            x_BD = np.take_along_axis(x_BD, from_BD, axis=1)
        return FrameBatch(torch.from_numpy(x_BD).float())


def transposition_limits(sounds_ND: np.ndarray, limit: int) -> np.ndarray:
    """(N, 2): how many columns each row can move down and up, at most `limit`; 0 if silent."""
    below_N, above_N = sounds_ND.argmax(1), sounds_ND[:, ::-1].argmax(1)
    return np.minimum(np.stack([below_N, above_N], axis=1), limit)


class PianoRolls(DataModule):
    """The piano-rolls of each split. Subclasses read them.

    - view: `rolls` gives sequences; `frames` gives single frames, which are shuffled in training.
    - dt: the seconds of a frame.
    - pitch_range: the lowest MIDI pitch, and the one above the highest.
    - repeats: whether a pitch in successive frames is one note (`sustain`) or a new note in each
      (`retrigger`).
    - chunk_length: the largest number of frames of a training chunk; null keeps pieces whole.
    - batch_size: the number of chunks (16 by default; the tutorial uses 1) or of frames (100 by
      default) of an update.
    - transpose: in every epoch each training piece is transposed at random by up to this number of
      semitones up or down, as far as all its notes stay in pitch_range. 0 switches it off.

    Validation and test read whole pieces. Every frame counts once; padding does not count.
    """

    views: ClassVar[dict[str, type[Spec]]] = {"rolls": Rolls, "frames": Frames}
    yields = tuple(views.values())

    @check_arguments
    def __init__(
        self,
        view: Literal["rolls", "frames"] = "rolls",
        dt: float = 0.3,
        pitch_range: tuple[int, int] = (21, 109),
        repeats: Literal["sustain", "retrigger"] = "sustain",
        chunk_length: PositiveInt | None = 100,
        batch_size: PositiveInt | None = None,
        transpose: NonNegativeInt = 0,
        seed: Seed = 1,
        num_workers: NonNegativeInt = 0,
        cache_dir: Path | None = None,
    ) -> None:
        super().__init__()
        self.rolls_codec = RollCodec(pitch_range, dt, repeats)
        self.batch_size = {"rolls": 16, "frames": 100}[view] if batch_size is None else batch_size
        self.view, self.chunk_length, self.transpose = view, chunk_length, transpose
        self.seed, self.num_workers, self.cache_dir = seed, num_workers, cache_dir
        self.rolls: dict[str, list[np.ndarray]] = {}
        """The rolls of each split, (T, P) uint8 of 0 and 1, after `setup`."""

    @property
    def codec(self) -> RollCodec | None:
        """None for single frames: an RBM's samples of them are written as pictures."""
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
            else key.describe()
            for key in keys
        ]

    def music(self, split: str) -> list[np.ndarray]:
        return self.rolls[split]

    def to_notes(self, piece: np.ndarray) -> np.ndarray:
        return self.rolls_codec.decode(piece)

    @property
    def beat(self) -> float:
        """Two frames, because a frame is an eighth note in most of these rolls."""
        return 2 * self.rolls_codec.dt

    @property
    def frame(self) -> float:
        return self.rolls_codec.dt

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
            transposition_limits(sounds_ND, self.transpose),
        )
        return batch_loader(RollDataset(rolls), batches, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> DataLoader:
        if self.view == "frames":
            return self._frame_loader(split, training=False)
        rolls = self.rolls[split]
        batches = PieceSampler([len(r) for r in rolls])
        return batch_loader(RollDataset(rolls), batches, self.num_workers)

    def _frame_loader(self, split: str, training: bool) -> DataLoader:
        frames_ND = np.concatenate(self.rolls[split])
        size = self.batch_size if training else EVAL_BATCH_SIZE
        if training and len(frames_ND) < size:
            raise UserError(f"data.batch_size={size}: there are {len(frames_ND):,} frames")
        dataset = FrameDataset(frames_ND, self.transpose if training else 0)
        batches = RowSampler(len(frames_ND), size, self.seed, training, shuffle=training)
        return batch_loader(dataset, batches, self.num_workers)
