"""MIDI files as piano-rolls: any folder, music21's Bach chorales, the Nottingham tunes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.base import SPLITS, Availability, cache_folder, data_root, has_file
from datamodules.midi_files import File, Onsets, in_parallel, midi_files, read_all, warn_left_out
from datamodules.piano_rolls import PianoRolls
from datamodules.sources.archives import unpack
from datamodules.sources.fetch import fetch
from datamodules.sources.music21_scores import CONVERTED, convert_chorales, is_converted
from musegen.codecs.midi import read_notes
from musegen.codecs.tonality import semitones_to_c, transposed
from musegen.constraints import OpenFraction, PositiveInt, check_arguments
from musegen.errors import UserError


class RollFolder(PianoRolls):
    """Every MIDI file (.mid, .midi, .kar, .rmi) below `root`, sampled every `dt` seconds.

    - frames_per_beat: the number of frames of a quarter note, at any tempo; null keeps the
      tempos of the files. dt is then the seconds of a frame when it is played.
    - common_key: transpose each piece to C, as in the benchmark.
    - val_fraction, test_fraction, split_seed: the split by piece (`datamodules.splits`), unless
      the folder has train/, valid/ and test/.

    Files without a note in pitch_range and files that are too long for a roll are left out and
    named in one warning. The other settings are those of `PianoRolls`.
    """

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        return Availability("data.root=DIR", None)

    @check_arguments
    def __init__(
        self,
        root: Path | None = None,
        frames_per_beat: PositiveInt | None = None,
        common_key: bool = False,
        val_fraction: OpenFraction = 0.1,
        test_fraction: OpenFraction = 0.1,
        split_seed: int = 0,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.rolls_codec = replace(
            self.rolls_codec, frames_per_beat=frames_per_beat, common_key=common_key
        )
        self.root = root
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.split_seed = split_seed

    def files(self) -> list[tuple[str, Path]]:
        """(name, path) of every MIDI file. The name is the path below the root."""
        if self.root is None:
            raise UserError("data=piano_roll_folder needs MIDI files: add data.root=DIR")
        return midi_files(data_root(self.root, ""))

    def read(self) -> dict[str, list[np.ndarray]]:
        files = self.all_rolls()
        names, keys = [f.name for f in files], [f.key for f in files]
        split = self.split(names, keys, self.val_fraction, self.test_fraction, self.split_seed)
        return {s: [files[i].array for i in split[s]] for s in SPLITS}

    def all_rolls(self) -> list[File]:
        """The roll of every usable file."""
        cache = cache_folder(self.cache_dir, "notes")
        by_beat = self.rolls_codec.frames_per_beat is not None
        parse, variant = (_in_beats, "-beats") if by_beat else (_in_seconds, "")
        pieces = read_all(self.files(), cache, variant, parse, _onsets, self.split_of)
        rolls, problems = [], []
        for name, notes, key in pieces:
            try:
                roll_TP = self._roll(notes)
            except UserError as e:
                problems.append(f"{name}: {e}")
                continue
            if roll_TP.any():
                rolls.append(File(name, roll_TP, key))
            else:
                problems.append(f"{name}: no note within pitch_range")
        if not rolls:
            raise UserError(
                f"none of {len(pieces)} pieces gives a roll; the first one: {problems[0]}"
            )
        warn_left_out(problems, len(pieces))
        return rolls

    def _roll(self, notes: np.ndarray) -> np.ndarray:
        codec = self.rolls_codec
        if codec.seconds_per_beat is not None:
            notes = notes.copy()
            for column in ("start", "end"):
                notes[column] *= codec.seconds_per_beat
        if codec.common_key:
            notes = transposed(notes, semitones_to_c(notes))
        return codec.encode(notes)


def _in_seconds(path: Path) -> np.ndarray:
    return read_notes(path, overlapping=True)


def _onsets(notes: np.ndarray) -> Onsets:
    notes = notes[notes["end"] > notes["start"]]
    return notes["start"], notes["pitch"]


def _in_beats(path: Path) -> np.ndarray:
    return read_notes(path, seconds_per_beat=1.0, overlapping=True)


class BachChorales(RollFolder):
    """Bach's chorales of music21's corpus, offline. They are written once to the cache as MIDI.

    The settings are those of `RollFolder`; `root` is not used.
    """

    licence = "works in the public domain; for the encodings, see the corpus of music21"

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        return Availability(CONVERTED, is_converted("chorales"))

    def files(self) -> list[tuple[str, Path]]:
        return midi_files(convert_chorales(cache_folder(self.cache_dir, "chorales"), in_parallel))


NOTTINGHAM_URLS = (
    "http://www-etud.iro.umontreal.ca/~boulanni/Nottingham.zip",
    # The host of 2012 no longer exists; the Internet Archive has the same file.
    "https://web.archive.org/web/20190502175445id_/"
    "http://www-etud.iro.umontreal.ca/~boulanni/Nottingham.zip",
)
NOTTINGHAM_ZIP = "Nottingham.zip"
NOTTINGHAM_SHA256 = "fd4eb21b656002790cb8429c3482518876c48881ce58270f5296fe5aad50075f"


class NottinghamTunes(RollFolder):
    """The Nottingham tunes as the RNN-RBM tutorial reads them.

    They are MIDI files in their original keys, sampled every 0.3 s, in the benchmark's split.
    (`RollBenchmark` has them in C, with one frame per eighth note.)

    - root: a folder with the tunes' train/, valid/ and test/. Without it
      MUSEGEN_DATA/nottingham_midi is used, or the files are downloaded once to the cache (0.7 MB).

    The other settings are those of `RollFolder`.
    """

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        return Availability(
            "a download of 0.7 MB, or data.root=DIR",
            has_file("", "nottingham_midi", "nottingham_midi"),
        )

    def files(self) -> list[tuple[str, Path]]:
        root = data_root(self.root, "nottingham_midi")
        if root is None:
            cache = cache_folder(self.cache_dir, "nottingham_midi")
            archive = fetch(NOTTINGHAM_ZIP, NOTTINGHAM_URLS, NOTTINGHAM_SHA256, cache)
            root = unpack(archive, cache / "tunes", (".mid",), needed="train")
        train_folders = sorted(p for p in root.rglob("train") if p.is_dir())
        if not train_folders:
            raise UserError(f"data.root={root}: has no folder train/ with the Nottingham tunes")
        return midi_files(train_folders[0].parent)
