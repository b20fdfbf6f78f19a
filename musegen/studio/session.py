"""The folder of the files that one keeps. The studio writes nowhere else."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from musegen.codecs.midi import read_score, write_notes
from musegen.codecs.midi_layout import MidiLayout, ticks_for, with_layout
from musegen.errors import UserError
from musegen.render.shown import SAVERS, Piece

GRID = 24
"""Ticks per beat are a multiple of this, so that triplets and 64th notes are exact."""


class Session:
    """Files with names that the studio chooses, in a folder that is made when it is first needed.

    - folder: where kept files are. It also has a short-lived folder for a file that is being read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder that is removed at the end."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self.folder, prefix=".scratch-") as folder:
            yield Path(folder)

    def keep(self, notes: np.ndarray, tempo: float, suffix: str) -> Path:
        """Write the notes as `suffix`, such as .mid, under a new name. Returns the path."""
        if suffix not in SAVERS:
            raise UserError(f"format={suffix}: should be one of {', '.join(SAVERS)}")
        self.folder.mkdir(parents=True, exist_ok=True)
        piece = Piece.of(laid_out(notes, tempo))
        day = time.strftime("%Y-%m-%d")
        for i in itertools.count(1):
            path = self.folder / f"piece-{day}-{i:02d}{suffix}"
            try:
                path.open("xb").close()  # the name is ours, also if another studio has this folder
            except FileExistsError:
                continue
            try:
                return piece.save(path)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        raise AssertionError

    def read(self, content: bytes) -> tuple[np.ndarray, float]:
        """The notes of a MIDI file's bytes, in seconds, and its mean tempo."""
        with self.scratch() as folder:
            path = folder / "upload.mid"
            path.write_bytes(content)
            try:
                return read_piece(path)
            except UserError as e:
                raise UserError(str(e).replace(str(path), "this file")) from e


def read_piece(path: Path) -> tuple[np.ndarray, float]:
    """The notes of a MIDI file, played at its mean tempo so that its beats are even, and the tempo.

    A file with SMPTE time has no beats: its notes are as they are, at 120 beats per minute.
    """
    from musegen.codecs.midi import read_notes

    try:
        score = read_score(path)
    except UserError:
        return read_notes(path), 120.0
    tempo = float(np.clip(round(60 / score.seconds_per_beat, 3), 4, 1000))
    notes = score.notes
    for column in ("start", "end"):
        notes[column] *= 60 / tempo
    return notes, tempo


def laid_out(notes: np.ndarray, tempo: float) -> np.ndarray:
    """The notes, to be written with this tempo."""
    return with_layout(notes, MidiLayout(60 / tempo, ticks_for(GRID)))


def write_prime(notes: np.ndarray, tempo: float, folder: Path) -> Path:
    """The notes as a MIDI file in the folder, for a model that continues them."""
    path = folder / "prime.mid"
    write_notes(laid_out(notes, tempo), path)
    return path
