"""Message streams → batches: shuffled windows, or batch rows that read whole pieces in order."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.midi_files import Piece
from datamodules.samplers import EpochBatchSampler, eval_batch_size
from musegen.codecs import midi_compiled
from musegen.codecs.message_matches import MessageHistory
from musegen.codecs.messages import FIELDS, MessageCodec
from musegen.runtime.random_streams import Stream, random_stream
from musegen.specs import MessageBatch

COMPILED_FROM = 1_000_000
"""Messages from which on coding is faster with compiled loops, which have to be loaded first."""
MAX_CODED = 1 << 24
"""The messages of the coded pieces that are kept: 100 MB, and 130 MB more for times in beats."""


@dataclass(frozen=True)
class StreamSlice:
    """Where a batch row reads: from message `start` of a piece on, transposed and stretched.

    - piece: the index of the piece; −1 is an idle batch row, which reads nothing.
    - start: −1 is the position before the first message.
    - fresh: the row starts with an empty recurrent state.
    - transpose: semitones up; tempo: a factor on every time.
    """

    piece: int
    start: int = 0
    fresh: bool = True
    transpose: int = 0
    tempo: float = 1.0


class Coded(NamedTuple):
    """A piece within the codec's pitch range: classes (T, F), times (T,), the clock (T, 2), and
    the longest matches (T, 2): their level, and the place of the message that followed."""

    classes_TF: np.ndarray
    times_T: np.ndarray
    clock_TC: np.ndarray | None
    match_TM: np.ndarray | None


class MessageDataset(Dataset[MessageBatch]):
    """The `StreamSlice`s of a batch → a `MessageBatch` with `window` predictions per row.

    With `only_last` the mask marks only the last prediction of each row. A piece is coded when it
    is first read; of the coded pieces the latest are kept, up to `MAX_CODED` messages. So the
    pieces may be larger than memory if their streams are mapped.
    """

    def __init__(self, pieces: list[Piece], codec: MessageCodec, window: int, only_last: bool):
        self.pieces, self.codec, self.window, self.only_last = pieces, codec, window, only_last
        self.lengths = [len(codec.in_range(p.stream)) for p in pieces]
        if sum(self.lengths) >= COMPILED_FROM:
            midi_compiled.prepare()
        self._coded: OrderedDict[int, Coded] = OrderedDict()
        self._num_coded = 0

    def __getitems__(self, slices: list[StreamSlice]) -> MessageBatch:
        L = self.window + 1
        x_BLF = np.empty((len(slices), L, len(FIELDS)), np.int64)
        x_BLF[:] = self.codec.spec.sizes  # the class of "before the piece", and of padding
        clock_BLC = np.zeros((len(slices), L, 2), np.int64)
        match_BLM = np.zeros((len(slices), L, 1 + len(FIELDS)), np.int64)
        match_BLM[..., 1:] = self.codec.spec.sizes
        mask_BL = np.zeros((len(slices), L), bool)
        for b, s in enumerate(slices):
            if s.piece < 0:
                continue
            piece = self.coded(s.piece)
            read = slice(max(0, s.start), s.start + L)
            part = self._classes(piece, read, s)
            here = slice(max(0, -s.start), max(0, -s.start) + len(part))
            x_BLF[b, here] = part
            mask_BL[b, here] = True
            if piece.clock_TC is not None:
                clock_BLC[b, :, 1] = piece.clock_TC[max(0, s.start), 1]  # before the first message
                clock_BLC[b, here] = piece.clock_TC[read]
            if piece.match_TM is not None:
                level_T, place_T = piece.match_TM[read].T
                match_BLM[b, here, 0] = level_T
                found_T = level_T > 0
                match_BLM[b, here][found_T, 1:] = self._followed(piece, place_T[found_T], s)
        mask_BT = mask_BL[:, 1:]
        if self.only_last:
            mask_BT[:, :-1] = False
        fresh_B = np.array([s.fresh for s in slices])
        arrays = x_BLF, mask_BT, fresh_B, clock_BLC, match_BLM
        x, mask, fresh, clock, match = map(torch.from_numpy, arrays)
        return MessageBatch(
            x, mask, fresh,
            clock if self.codec.in_beats else None,
            match if self.codec.longest_match else None,
        )  # fmt: skip

    def coded(self, piece: int) -> Coded:
        """The classes, times, clock and matches of a piece."""
        if piece in self._coded:
            self._coded.move_to_end(piece)
            return self._coded[piece]
        stream = self.codec.in_range(self.pieces[piece].stream)
        classes_TF = self.codec.encode(stream)
        clock_TC = self.codec.clock(stream, classes_TF) if self.codec.in_beats else None
        match_TM = self._matches(classes_TF) if self.codec.longest_match else None
        # All numbers of classes fit into 16 bits, and those of ticks into 32.
        coded = Coded(
            classes_TF.astype(np.int16),
            stream["time"],
            None if clock_TC is None else clock_TC.astype(np.int32),
            match_TM,
        )
        self._coded[piece] = coded
        self._num_coded += len(classes_TF)
        while self._num_coded > MAX_CODED and len(self._coded) > 1:
            _, oldest = self._coded.popitem(last=False)
            self._num_coded -= len(oldest.classes_TF)
        return coded

    def _matches(self, classes_TF: np.ndarray) -> np.ndarray:
        history = MessageHistory(1, self.codec.spec.sizes, len(classes_TF))
        match_BTM, place_BT = history.read(classes_TF[None])
        return np.stack([match_BTM[0, :, 0], place_BT[0]], axis=1).astype(np.int32)

    def _classes(self, piece: Coded, read: slice, s: StreamSlice) -> np.ndarray:
        """The classes that a slice reads, (≤ L, F)."""
        part = piece.classes_TF[read]
        if s.transpose or s.tempo != 1.0:
            part = part.copy()
            part[:, 0] += s.transpose
            if s.tempo != 1.0:
                part[:, 2] = self.codec.grid.classes(piece.times_T[read] * s.tempo)
        return part

    def _followed(self, piece: Coded, place_N: np.ndarray, s: StreamSlice) -> np.ndarray:
        """The classes of the messages that followed matches, (N, F), transposed and stretched."""
        next_NF = piece.classes_TF[place_N]
        next_NF[:, 0] += s.transpose
        if s.tempo != 1.0:
            # Each time is rounded alone: these messages do not follow each other.
            stretched_N = piece.times_T[place_N] * s.tempo
            next_NF[:, 2] = np.searchsorted(self.codec.grid.edges, stretched_N)
        return next_NF


class CodedPieces(Sequence[np.ndarray]):
    """The classes of each piece, (T, F) int64, computed whenever one is read."""

    def __init__(self, pieces: list[Piece], codec: MessageCodec) -> None:
        self.pieces, self.codec = pieces, codec

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return CodedPieces(self.pieces[index], self.codec)
        return self.codec.encode(self.pieces[index].stream)


class MessageWindowSampler(EpochBatchSampler[StreamSlice]):
    """Windows of `window` predictions, each with an empty recurrent state.

    A window's `start` counts from −1, the position before the piece. With `stride` equal to
    `window` the windows lie side by side, and every epoch draws their offset within each piece.
    With a smaller stride they overlap; with `stride` 1 each message is the last one of exactly
    one window. With `shuffle` every epoch draws the order of the windows.
    """

    def __init__(
        self,
        lengths: list[int],
        window: int,
        stride: int,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__()
        self.lengths, self.window, self.stride = lengths, window, stride
        self.batch_size, self.seed, self.shuffle, self.augment = batch_size, seed, shuffle, augment

    def plan(self, epoch: int, rank: int, world: int) -> list[list[StreamSlice]]:
        rng = random_stream(Stream.EPOCHS, self.seed, epoch)
        slices: list[StreamSlice] = []
        for piece, length in enumerate(self.lengths):
            for start in self._starts(length, rng):
                augmentation = _draw_augmentation(self.augment, piece, rng)
                slices.append(StreamSlice(piece, start, True, *augmentation))
        if self.shuffle:
            slices = [slices[i] for i in rng.permutation(len(slices))]
        size = self.batch_size
        if not self.shuffle:
            size = eval_batch_size(len(slices), size, world)
        batches = [slices[b : b + size] for b in range(0, len(slices), size)]
        # In training all ranks must take the same number of batches; the rest waits for another
        # epoch. In evaluation every window counts, on any rank.
        end = len(batches) // world * world if self.shuffle else len(batches)
        return batches[rank:end:world]

    def _starts(self, length: int, rng: np.random.Generator) -> range:
        """The first positions of the windows of a piece."""
        if self.stride < self.window:
            return range(-self.window, length - self.window, self.stride)
        n = max(1, length // self.stride)
        offset = int(rng.integers(0, max(0, length - n * self.stride) + 1))
        return range(offset - 1, offset - 1 + n * self.stride, self.stride)


class MessageStreamSampler(EpochBatchSampler[StreamSlice]):
    """Batch rows that read whole pieces window by window and keep the recurrent state.

    Each piece is given to the batch row that has the least to read, the longest piece first. In
    training (`shuffle`) every epoch draws the order of the pieces within each row. The rows are
    divided among the ranks.
    """

    def __init__(
        self,
        lengths: list[int],
        window: int,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        augment: Augmentation | None = None,
    ) -> None:
        super().__init__()
        self.lengths, self.window, self.batch_size = lengths, window, batch_size
        self.seed, self.shuffle, self.augment = seed, shuffle, augment

    def plan(self, epoch: int, rank: int, world: int) -> list[list[StreamSlice]]:
        rng = random_stream(Stream.EPOCHS, self.seed, epoch)
        n_rows = min(self.batch_size * world, len(self.lengths))
        pieces_by_row, n_windows = self._assign_pieces(n_rows)
        rows = [self._row_slices(pieces, rng) for pieces in pieces_by_row][rank::world]
        idle = StreamSlice(-1)
        return [
            [row[t] if t < len(row) else idle for row in rows] or [idle] for t in range(n_windows)
        ]

    def _assign_pieces(self, n_rows: int) -> tuple[list[list[int]], int]:
        """The pieces of each row, and the number of windows of the longest row."""
        pieces_by_row: list[list[int]] = [[] for _ in range(n_rows)]
        load = [0] * n_rows
        for piece in sorted(range(len(self.lengths)), key=lambda p: -self.lengths[p]):
            row = load.index(min(load))
            pieces_by_row[row].append(piece)
            load[row] += -(-self.lengths[piece] // self.window)
        return pieces_by_row, max(load)

    def _row_slices(self, pieces: list[int], rng: np.random.Generator) -> list[StreamSlice]:
        """What one batch row reads, one slice per batch."""
        slices: list[StreamSlice] = []
        for piece in rng.permutation(pieces).tolist() if self.shuffle else pieces:
            augmentation = _draw_augmentation(self.augment, piece, rng)
            starts = range(-1, self.lengths[piece] - 1, self.window)
            slices += [StreamSlice(piece, start, start < 0, *augmentation) for start in starts]
        return slices


def _draw_augmentation(
    augment: Augmentation | None, piece: int, rng: np.random.Generator
) -> tuple[int, float]:
    return augment.draw(piece, rng) if augment else (0, 1.0)


class Augmentation:
    """Random transposition and tempo. A transposed piece stays within the codec's pitch range.

    - semitones: the largest transposition up or down.
    - tempo: times are multiplied by a factor between 1 / (1 + tempo) and 1 + tempo.
    """

    def __init__(
        self, streams: Iterable[np.ndarray], codec: MessageCodec, semitones: int, tempo: float
    ) -> None:
        self.tempo = tempo
        low, high = codec.pitch_range
        self.limits = [
            (
                -min(semitones, int(s["note"].min(initial=127)) - low),
                min(semitones, high - 1 - int(s["note"].max(initial=0))),
            )
            for s in streams
        ]

    def draw(self, piece: int, rng: np.random.Generator) -> tuple[int, float]:
        """(semitones up, factor on every time)."""
        low, high = self.limits[piece]
        factor = float(np.exp(rng.uniform(-1, 1) * np.log1p(self.tempo)))
        return int(rng.integers(min(low, 0), max(high, 0) + 1)), factor
