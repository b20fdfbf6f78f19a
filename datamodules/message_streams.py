"""MIDI files as (note, velocity, time) message streams: any folder, or music21's Mozart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from torch.utils.data import DataLoader

from datamodules.base import SPLITS, Availability, DataModule, cache_folder, data_root
from datamodules.message_rows import (
    Augmentation,
    CodedPieces,
    MessageDataset,
    MessageStreamSampler,
    MessageWindowSampler,
    StreamSlice,
)
from datamodules.midi_files import Piece, in_parallel, midi_files, read_pieces
from datamodules.samplers import EpochBatchSampler, batch_loader
from datamodules.sources.music21_scores import CONVERTED, convert_mozart, is_converted
from musegen.codecs.messages import MessageCodec, messages_to_notes
from musegen.constraints import (
    NonNegativeFloat,
    NonNegativeInt,
    OpenFraction,
    PositiveInt,
    Seed,
    check_arguments,
)
from musegen.errors import UserError
from musegen.specs import Messages


class MidiFolder(DataModule):
    """Every MIDI file (.mid, .midi, .kar, .rmi) below `root`, as message streams.

    - codec: the classes of note, velocity and time. `codec.time_unit=beats` reads scores by their
      beats and bars; a file without beats (SMPTE time) is left out.
    - sustain: notes last as long as the pedal is down.
    - window: messages predicted per batch row.
    - batch_size: batch rows.
    - loss_on: train on `all` positions of a window, or only on the `last` one. (The "Neural
      Mozart" course predicts one message from the 30 before it: loss_on=last, window=30.)
    - carry: batch rows read whole pieces and keep the recurrent state from window to window
      (truncated back-propagation); otherwise windows are shuffled.
    - transpose: each training window (with `carry` each piece) is transposed at random by up to
      this number of semitones up or down. 0 switches it off.
    - tempo: its times are multiplied by a random factor between 1 / (1 + tempo) and 1 + tempo.
      0 switches it off. Null is 0.1 for times in seconds, and 0 for times in beats, which have no
      tempo.
    - val_fraction, test_fraction, split_seed: the split by piece (`datamodules.splits`), unless
      the folder has train/, valid/ and test/.

    Validation and test read whole pieces in order. Every message counts once. Raises `UserError`
    in `setup` if no file has a note in the codec's pitch range.
    """

    yields: ClassVar[tuple[type[Messages], ...]] = (Messages,)

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        return Availability("data.root=DIR", None)

    @check_arguments
    def __init__(
        self,
        root: Path | None = None,
        codec: MessageCodec | None = None,
        sustain: bool = False,
        window: PositiveInt = 128,
        batch_size: PositiveInt = 32,
        loss_on: Literal["all", "last"] = "all",
        carry: bool = False,
        transpose: NonNegativeInt = 5,
        tempo: NonNegativeFloat | None = None,
        val_fraction: OpenFraction = 0.1,
        test_fraction: OpenFraction = 0.1,
        split_seed: int = 0,
        seed: Seed = 1,
        num_workers: NonNegativeInt = 0,
        cache_dir: Path | None = None,
    ) -> None:
        super().__init__()
        if carry and loss_on == "last":
            raise UserError(
                "data.loss_on=last: carry=true trains on all positions; use loss_on=all"
            )
        self.root, self.sustain, self.cache_dir = root, sustain, cache_dir
        self.codec: MessageCodec = replace(codec or MessageCodec(), sustain=sustain, labels=None)
        if tempo and self.codec.in_beats:
            raise UserError(
                f"data.tempo={tempo}: times in beats have no tempo; leave it out, or use "
                "data.codec.time_unit=seconds"
            )
        if tempo is None:
            tempo = 0.0 if self.codec.in_beats else 0.1
        self.window, self.batch_size, self.num_workers = window, batch_size, num_workers
        self.loss_on, self.carry, self.transpose, self.tempo = loss_on, carry, transpose, tempo
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.split_seed, self.seed = split_seed, seed
        self.pieces: dict[str, list[Piece]] = {}

    @property
    def spec(self) -> Messages:
        return self.codec.spec

    def files(self) -> list[tuple[str, Path]]:
        """(name, path) of every MIDI file. The name is the path below the root."""
        if self.root is None:
            raise UserError("data=midi_folder needs a folder of MIDI files: add data.root=DIR")
        return midi_files(data_root(self.root, ""))

    def prepare_data(self) -> None:
        self.setup()  # fills the caches, once per node

    def setup(self, stage: str | None = None) -> None:
        if self.pieces:
            return
        pieces = read_pieces(self.files(), self.cache_dir, self.codec, self.split_of)
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
        return [self.pieces["train"][s.piece].name for s in keys if s.piece >= 0]

    def coded(self, split: str) -> CodedPieces:
        """The pieces of a split as class indices, (T, F) each, after `setup`."""
        return CodedPieces(self.pieces[split], self.codec)

    def music(self, split: str) -> list[Piece]:
        return self.pieces[split]

    def to_notes(self, piece: Piece) -> np.ndarray:
        """The notes of a piece, in seconds at its own tempo."""
        stream = self.codec.in_range(piece.stream)
        notes = messages_to_notes(stream)
        if self.codec.in_beats and len(stream):
            for column in ("start", "end"):
                notes[column] *= stream["seconds_per_beat"][0]
        return notes

    def dataset(self, split: str) -> MessageDataset:
        """The batches of a split by their slices, after `setup`."""
        last = self.loss_on == "last"
        return MessageDataset(self.pieces[split], self.codec, self.window, last)

    def train_dataloader(self) -> DataLoader:
        last = self.loss_on == "last"
        dataset = self.dataset("train")
        lengths = dataset.lengths
        streams = (self.codec.in_range(p.stream) for p in dataset.pieces)
        augment = (
            Augmentation(streams, self.codec, self.transpose, self.tempo)
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
        return batch_loader(dataset, batches, self.num_workers)

    def val_dataloader(self) -> DataLoader:
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader:
        return self._evaluation_loader("test")

    def _evaluation_loader(self, split: str) -> DataLoader:
        """Whole pieces in order; with `loss_on=last` all windows of a piece."""
        last = self.loss_on == "last"
        dataset = self.dataset(split)
        lengths = dataset.lengths
        batches: EpochBatchSampler[StreamSlice]
        if last:
            batches = MessageWindowSampler(lengths, self.window, 1, self.batch_size)
        else:
            batches = MessageStreamSampler(lengths, self.window, self.batch_size)
        return batch_loader(dataset, batches, self.num_workers)


class Mozart(MidiFolder):
    """The Mozart movements of music21's corpus, offline, written once to the cache as MIDI.

    The settings are those of `MidiFolder`; `root` is not used.
    """

    licence = "works in the public domain; for the encodings, see the corpus of music21"

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        return Availability(CONVERTED, is_converted("mozart"))

    def files(self) -> list[tuple[str, Path]]:
        return midi_files(convert_mozart(cache_folder(self.cache_dir, "mozart"), in_parallel))
