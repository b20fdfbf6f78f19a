"""The folder of the files that one keeps. The studio writes nowhere else."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from musegen.codecs.midi import read_notes, read_score, write_notes
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
        self.kept: dict[str, Path] = {}
        """The files that were kept since the studio was started, by name."""
        self._lock = threading.Lock()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder that is removed at the end; so is the session's folder if nothing is in it."""
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            scratch = TemporaryDirectory(dir=self.folder, prefix=".scratch-")
        try:
            yield Path(scratch.name)
        finally:
            with self._lock, suppress(OSError):
                scratch.cleanup()
                self.folder.rmdir()

    def keep(self, notes: np.ndarray, tempo: float, suffix: str) -> Path:
        """Write the notes as `suffix`, such as .mid, under a new name. Returns the path."""
        if suffix not in SAVERS:
            raise UserError(f"format={suffix}: should be one of {', '.join(SAVERS)}")
        if not len(notes):
            raise UserError("there are no notes to keep")
        path = self._new_name(suffix)
        try:
            self.kept[path.name] = Piece.of(laid_out(notes, tempo)).save(path)
            return path
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def _new_name(self, suffix: str) -> Path:
        """An empty file whose name nobody else has, also if another studio has this folder."""
        day = time.strftime("%Y-%m-%d")
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            for i in itertools.count(1):
                path = self.folder / f"piece-{day}-{i:02d}{suffix}"
                with suppress(FileExistsError):
                    path.open("xb").close()
                    return path
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
