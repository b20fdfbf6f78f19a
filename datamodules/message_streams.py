"""MIDI files as (note, velocity, time) message streams: any folder, or music21's Mozart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from torch.utils.data import DataLoader

from datamodules.base import SPLITS, DataModule, cache_folder, data_root
from datamodules.message_rows import (
    Augment,
    MessageRows,
    MessageStreamSampler,
    MessageWindowSampler,
    StreamSlice,
)
from datamodules.midi_files import Piece, in_parallel, midi_files, read_pieces
from datamodules.samplers import EpochBatchSampler, batch_loader
from datamodules.sources.music21_scores import convert_mozart
from musegen.codecs.messages import MessageCodec, messages_to_notes
from musegen.errors import UserError
from musegen.specs import Messages


class MidiFolder(DataModule):
    """Every MIDI file (.mid, .midi, .kar, .rmi) below `root`, as message streams.

    - codec: classes of note, velocity and time. sustain: pedal-held notes last.
    - window: messages predicted per row; batch_size: rows.
    - loss_on: `every` position of a window, or only the `last` (the course's way: each window of
      `window` messages predicts the next one; use window=30).
    - carry: rows go through whole pieces and the state is carried along (truncated
      back-propagation) instead of shuffled windows.
    - transpose: training pieces are shifted by up to so many semitones either way; tempo: their
      times are stretched or shortened by up to this share. 0 switches either off.
    - val_fraction, test_fraction, split_seed: split by piece (`datamodules.splits`), unless the
      folder has train/, valid/ and test/.

    Validation and test always read whole pieces in order, every message counted once.
    """

    yields = (Messages,)

    def __init__(
        self,
        root: Path | None = None,
        codec: MessageCodec | None = None,
        sustain: bool = False,
        window: int = 128,
        batch_size: int = 32,
        loss_on: Literal["all", "last"] = "all",
        carry: bool = False,
        transpose: int = 5,
        tempo: float = 0.1,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        split_seed: int = 0,
        seed: int = 1,
        num_workers: int = 0,
        cache_dir: Path | None = None,
    ) -> None:
        super().__init__()
        if min(window, batch_size) < 1 or min(transpose, tempo, num_workers) < 0:
            raise UserError(
                f"data: window={window} and batch_size={batch_size} must be at least 1, "
                f"transpose={transpose}, tempo={tempo} and num_workers={num_workers} not negative"
            )
        if carry and loss_on == "last":
            raise UserError("data: carry=true teaches every position; leave data.loss_on at every")
        self.root, self.sustain, self.cache_dir = root, sustain, cache_dir
        self.codec: MessageCodec = replace(codec or MessageCodec(), sustain=sustain)
        self.window, self.batch_size, self.num_workers = window, batch_size, num_workers
        self.loss_on, self.carry, self.transpose, self.tempo = loss_on, carry, transpose, tempo
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.split_seed, self.seed = split_seed, seed
        self.pieces: dict[str, list[Piece]] = {}

    @property
    def spec(self) -> Messages:
        return self.codec.spec

    def files(self) -> list[tuple[str, Path]]:
        """(name, path) of every MIDI file; the name is the path below the root."""
        if self.root is None:
            raise UserError("data=midi_folder needs a folder of MIDI files: add data.root=DIR")
        return midi_files(data_root(self.root, ""))

    def prepare_data(self) -> None:
        self.setup()  # fills the caches, once per node

    def setup(self, stage: str | None = None) -> None:
        if self.pieces:
            return
        pieces = read_pieces(self.files(), self.cache_dir, self.sustain, self.side_of)
        usable = [p for p in pieces if len(self.codec.in_range(p.stream))]
        if not usable:
            raise UserError(f"no piece has a note within pitch_range={self.codec.pitch_range}")
        names, keys = [p.name for p in usable], [p.key for p in usable]
        split = self.split(names, keys, self.val_fraction, self.test_fraction, self.split_seed)
        self.pieces = {s: [usable[i] for i in split[s]] for s in SPLITS}

    def describe(self) -> str:
        parts = []
        for s in SPLITS:
            n_messages = sum(len(p.stream) for p in self.pieces[s])
            parts.append(f"{s} {len(self.pieces[s])} pieces / {n_messages:,} messages")
        return ", ".join(parts)

    def sources(self, keys: list[StreamSlice]) -> list[str]:
        return [self.pieces["train"][cut.piece].name for cut in keys if cut.piece >= 0]

    def coded(self, split: str) -> list[np.ndarray]:
        """The pieces of a split as classes, (T, F) each, after `setup`."""
        return [self.codec.encode(p.stream) for p in self.pieces[split]]

    def training_notes(self) -> list[np.ndarray]:
        return [messages_to_notes(self.codec.in_range(p.stream)) for p in self.pieces["train"]]

    def train_dataloader(self) -> DataLoader:
        last = self.loss_on == "last"
        rows = MessageRows(self.pieces["train"], self.codec, self.window, last)
        lengths = [len(s) for s in rows.streams]
        augment = (
            Augment(rows.streams, self.codec, self.transpose, self.tempo)
            if self.transpose or self.tempo
            else None
        )
        batches: EpochBatchSampler[StreamSlice]
        if self.carry:
            batches = MessageStreamSampler(
                lengths, self.window, self.batch_size, self.seed, shuffle=True, augment=augment
            )
        else:
            stride = 1 if last else self.window
            batches = MessageWindowSampler(
                lengths, self.window, stride, self.batch_size, self.seed, True, augment
            )
        return batch_loader(rows, batches, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> DataLoader:
        """Whole pieces in order, or for `loss_on=last` the same windows as in training."""
        last = self.loss_on == "last"
        rows = MessageRows(self.pieces[split], self.codec, self.window, last)
        lengths = [len(s) for s in rows.streams]
        batches: EpochBatchSampler[StreamSlice]
        if last:
            batches = MessageWindowSampler(lengths, self.window, 1, self.batch_size)
        else:
            batches = MessageStreamSampler(lengths, self.window, self.batch_size)
        return batch_loader(rows, batches, self.num_workers)


class Mozart(MidiFolder):
    """The Mozart movements of music21's corpus, offline; written once as MIDI to the cache.

    Settings as for `MidiFolder`; a `root` is not needed.
    """

    def files(self) -> list[tuple[str, Path]]:
        return midi_files(convert_mozart(cache_folder(self.cache_dir, "mozart"), in_parallel))
