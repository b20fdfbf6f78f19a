"""Message streams → batches: shuffled windows, or rows that carry on along whole pieces."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from datamodules.midi_files import Piece
from datamodules.samplers import EpochBatchSampler, epoch_rng, shared_width
from musegen.codecs.messages import FIELDS, MessageCodec
from musegen.specs import MessageBatch


@dataclass(frozen=True)
class StreamSlice:
    """A place in a piece: its row reads the messages from `start` on. piece −1 is an idle row."""

    piece: int
    start: int = 0
    fresh: bool = True
    transpose: int = 0
    tempo: float = 1.0


class MessageRows(Dataset[MessageBatch]):
    """Turns the `StreamSlice`s of a batch into a `MessageBatch` of `window` predictions per row."""

    def __init__(self, pieces: list[Piece], codec: MessageCodec, window: int, only_last: bool):
        self.codec, self.window, self.only_last = codec, window, only_last
        self.streams = [codec.in_range(p.stream) for p in pieces]

    def __getitems__(self, slices: list[StreamSlice]) -> MessageBatch:
        L = self.window + 1
        x_BLF = np.empty((len(slices), L, len(FIELDS)), np.int64)
        x_BLF[:] = self.codec.spec.sizes  # "before the piece", and padding behind it
        mask_BL = np.zeros((len(slices), L), bool)
        parts = [self._read(cut, L) for cut in slices]
        for b, (cut, part) in enumerate(zip(slices, parts, strict=True)):
            first = max(0, -cut.start)
            mask_BL[b, first : first + len(part)] = True
        x_BLF[mask_BL] = self.codec.encode(np.concatenate(parts))
        mask_BT = mask_BL[:, 1:]
        if self.only_last:
            mask_BT[:, :-1] = False
        fresh_B = np.array([cut.fresh for cut in slices])
        return MessageBatch(*map(torch.from_numpy, (x_BLF, mask_BT, fresh_B)))

    def _read(self, cut: StreamSlice, length: int) -> np.ndarray:
        if cut.piece < 0:
            return self.streams[0][:0]
        part = self.streams[cut.piece][max(0, cut.start) : cut.start + length]
        if cut.transpose or cut.tempo != 1.0:
            part = part.copy()
            part["note"] += np.uint8(cut.transpose & 0xFF)  # modulo 256: −1 adds 255
            part["time"] *= cut.tempo
        return part


class MessageWindowSampler(EpochBatchSampler[StreamSlice]):
    """Windows of `window` predictions, each row fresh.

    A window's `start` counts from −1, the place before the piece. For training with `stride`
    equal to `window` every epoch lays the windows at another phase, in another order; with
    `stride` 1 (the course) each message is once the last of a window.
    """

    def __init__(
        self,
        lengths: list[int],
        window: int,
        stride: int,
        batch_size: int,
        seed: int = 0,
        shuffle: bool = False,
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self.lengths, self.window, self.stride = lengths, window, stride
        self.batch_size, self.seed, self.shuffle, self.augment = batch_size, seed, shuffle, augment

    def plan(self, epoch: int, rank: int, world: int) -> list[list[StreamSlice]]:
        rng = epoch_rng(self.seed, epoch)
        slices: list[StreamSlice] = []
        for piece, length in enumerate(self.lengths):
            if self.stride < self.window:
                starts = range(-self.window, length - self.window, self.stride)
            else:
                n = max(1, length // self.stride)
                phase = int(rng.integers(0, max(0, length - n * self.stride) + 1))
                starts = range(phase - 1, phase - 1 + n * self.stride, self.stride)
            for start in starts:
                slices.append(StreamSlice(piece, start, True, *_drawn(self.augment, piece, rng)))
        if self.shuffle:
            slices = [slices[i] for i in rng.permutation(len(slices))]
        size = self.batch_size
        if not self.shuffle:
            size = shared_width(len(slices), size, world)
        batches = [slices[b : b + size] for b in range(0, len(slices), size)]
        # Ranks in training must take equally many: what does not go round is left for another
        # epoch. In evaluation every window counts, on whichever rank.
        even = len(batches) // world * world if self.shuffle else len(batches)
        return batches[rank:even:world]


class MessageStreamSampler(EpochBatchSampler[StreamSlice]):
    """Rows that go through whole pieces window by window, the state carried on along a piece.

    Pieces are dealt to the rows longest first, each to the row with least to do; in training
    (`shuffle`) their order within a row is drawn anew each epoch. Rows are dealt to the ranks.
    """

    def __init__(
        self,
        lengths: list[int],
        window: int,
        rows: int,
        seed: int = 0,
        shuffle: bool = False,
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self.lengths, self.window, self.rows = lengths, window, rows
        self.seed, self.shuffle, self.augment = seed, shuffle, augment

    def plan(self, epoch: int, rank: int, world: int) -> list[list[StreamSlice]]:
        rng = epoch_rng(self.seed, epoch)
        n_rows = min(self.rows * world, len(self.lengths))
        rows: list[list[int]] = [[] for _ in range(n_rows)]
        load = [0] * n_rows
        for piece in sorted(range(len(self.lengths)), key=lambda p: -self.lengths[p]):
            row = load.index(min(load))
            rows[row].append(piece)
            load[row] += -(-self.lengths[piece] // self.window)
        lanes = [self._lane(row, rng) for row in rows][rank::world]
        idle = StreamSlice(-1)
        return [
            [lane[t] if t < len(lane) else idle for lane in lanes] or [idle]
            for t in range(max(load))
        ]

    def _lane(self, pieces: list[int], rng: np.random.Generator) -> list[StreamSlice]:
        lane: list[StreamSlice] = []
        for piece in rng.permutation(pieces).tolist() if self.shuffle else pieces:
            shift = _drawn(self.augment, piece, rng)
            starts = range(-1, self.lengths[piece] - 1, self.window)
            lane += [StreamSlice(piece, start, start < 0, *shift) for start in starts]
        return lane


def _drawn(augment: Augment | None, piece: int, rng: np.random.Generator) -> tuple[int, float]:
    return augment.draw(piece, rng) if augment else (0, 1.0)


class Augment:
    """Transposition and tempo drawn per window, within what keeps a piece in the pitch range."""

    def __init__(self, streams: list[np.ndarray], codec: MessageCodec, semitones: int,
                 tempo: float):  # fmt: skip
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
