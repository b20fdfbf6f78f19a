"""MIDI files → message streams or notes: found, parsed in parallel, cached by content.

Copies are known by their notes (`notes_key`): the same music under another title, at another
tempo, or saved by another program is one piece, so that it cannot be in training and in test.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from datamodules.base import cache_folder
from datamodules.files import files_below
from datamodules.splits import folder_side
from musegen.codecs.messages import notes_to_messages
from musegen.codecs.midi import MAX_BYTES, printable, read_notes
from musegen.errors import UserError
from musegen.runtime.atomic import replacing
from musegen.runtime.distributed import end_with_parent
from musegen.runtime.progress import track

READER_VERSION = 3
"""Part of the cache key: raise it when `read_notes` or `notes_to_messages` changes its result."""
ENDINGS = (".mid", ".midi", ".kar", ".rmi")
"""Karaoke files are MIDI files with lyrics, .rmi files MIDI files in a RIFF wrapper."""
LISTED = 8
"""Files that a warning names."""


Onsets = tuple[np.ndarray, np.ndarray]
"""Of each note, in any order: the second it begins at, and its pitch."""


class Piece(NamedTuple):
    """A named `MESSAGES` stream, and the key by which it is known."""

    name: str
    stream: np.ndarray
    key: str = ""


class Parsed(NamedTuple):
    """What a file holds, and its key. With a problem there is no array; a remark comes beside."""

    array: np.ndarray | None
    key: str = ""
    problem: str = ""
    remark: str = ""


class File(NamedTuple):
    """A file that was read."""

    name: str
    array: np.ndarray
    key: str


def read_pieces(
    files: Iterable[tuple[str, Path]],
    cache_dir: Path | None,
    sustain: bool,
    side_of: Callable[[str], str | None] = folder_side,
) -> list[Piece]:
    """Parse (name, path) pairs into streams; left out is what `read_all` leaves out."""
    cache, variant = cache_folder(cache_dir, "messages"), "-sustain" if sustain else ""
    parse = partial(_stream, sustain=sustain)
    return [Piece(*f) for f in read_all(files, cache, variant, parse, _onsets, side_of)]


def _onsets(stream: np.ndarray) -> Onsets:
    struck = stream["velocity"] > 0
    return np.cumsum(stream["time"], dtype=np.float64)[struck], stream["note"][struck]


def _stream(path: Path, sustain: bool) -> np.ndarray:
    return notes_to_messages(read_notes(path, sustain=sustain))


def read_all(
    files: Iterable[tuple[str, Path]],
    cache: Path,
    variant: str,
    parse: Callable[[Path], np.ndarray],
    onsets_of: Callable[[np.ndarray], Onsets],
    side_of: Callable[[str], str | None] = folder_side,
) -> list[File]:
    """What `parse` makes of (name, path) pairs, each file parsed once ever per content and
    `variant`, which names the settings of `parse`. `onsets_of` gives the onsets in its result.

    Files that cannot be read or hold no notes are left out and named in one warning, copies too:
    of files with the same notes one stays, and where `side_of` states their sides it is one for
    the test rather than for validation, and for validation rather than for training. Raises
    `UserError` if nothing is left.
    """
    files = list(files)
    read = partial(_read_cached, cache=cache, variant=variant, parse=parse, onsets_of=onsets_of)
    results = in_parallel(read, [path for _, path in files], "reading MIDI")
    keys = [result.key for result in results]
    original = _originals([name for name, _ in files], keys, side_of)
    pieces, left_out = [], []
    for (name, _), result in zip(files, results, strict=True):
        if result.array is None:
            left_out.append(result.problem)
        elif original[result.key] != name:
            left_out.append(f"{name}: the same notes as {original[result.key]}")
        else:
            pieces.append(File(name, result.array, result.key))
    if not pieces:
        why = f"; the first problem: {left_out[0]}" if left_out else ""
        raise UserError(f"no usable MIDI file among {len(files)}{why}")
    warn_left_out(left_out, len(files))
    if remarks := [result.remark for result in results if result.remark]:
        rank_zero_warn(f"{len(remarks)} of {len(files)} MIDI files have a fault: {_list(remarks)}")
    return pieces


def _originals(
    names: Sequence[str], keys: Sequence[str], side_of: Callable[[str], str | None]
) -> dict[str, str]:
    """By key the name of the one file that stays."""
    order = {"test": 0, "val": 1, "train": 2, None: 3}
    ranked = sorted(zip(names, keys, strict=True), key=lambda file: order[side_of(file[0])])
    return {key: name for name, key in reversed(ranked)}


def warn_left_out(problems: list[str], n: int) -> None:
    """One warning that names the files left out of n, if there are any."""
    if problems:
        rank_zero_warn(f"{len(problems)} of {n} MIDI files left out: {_list(problems)}")


def _list(lines: list[str]) -> str:
    return "; ".join(lines[:LISTED]) + ("; …" if len(lines) > LISTED else "")


def _read_cached(
    path: Path,
    cache: Path,
    variant: str,
    parse: Callable[[Path], np.ndarray],
    onsets_of: Callable[[np.ndarray], Onsets],
) -> Parsed:
    try:
        with path.open("rb") as file:  # a larger one is refused for its size
            digest = hashlib.sha256(file.read(MAX_BYTES)).hexdigest()
    except OSError as e:
        return Parsed(None, problem=f"{printable(path)}: {e.strerror}")
    entry = cache / f"{digest[:32]}-v{READER_VERSION}{variant}.npy"
    if entry.exists():
        try:
            array = np.load(entry, allow_pickle=False)
            return Parsed(array, notes_key(*onsets_of(array)))
        except (ValueError, OSError, EOFError):
            entry.unlink(missing_ok=True)  # damaged: parse again
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            array = parse(path)
        except UserError as e:
            return Parsed(None, problem=str(e))
    if not len(array):
        problem = f"{printable(path)}: no notes outside the percussion channel"
        return Parsed(None, problem=problem)
    with replacing(entry, "wb") as file:
        np.save(file, array)
    remark = "; ".join(str(w.message) for w in caught)
    return Parsed(array, notes_key(*onsets_of(array)), remark=remark)


FEW_NOTES = 32
RHYTHM_STEPS, RHYTHM_OFFSET = 100, 1 / np.pi
"""Onsets of a short piece are told apart to a hundredth of its length. The offset keeps them off
the boundaries, where rounding would decide: it is no fraction of small numbers."""


def notes_key(starts: np.ndarray, pitches: np.ndarray) -> str:
    """What a piece is known by: a hash of its pitches in the order of their onsets.

    Titles, tempos, loudness, durations, instruments and ticks per beat do not count, so that a
    copy stays a copy after another program has saved it. A transposed piece is another piece.
    Below 32 notes, where different pieces may share their pitches, the rhythm counts too: onsets
    as fractions of the piece.
    """
    starts, pitches = np.unique(np.stack([starts, pitches]), axis=1)  # sorted by start, then pitch
    digest = hashlib.sha256(pitches.astype(np.uint8).tobytes())
    if 0 < len(starts) < FEW_NOTES:
        onsets = (starts - starts[0]) / max(starts[-1] - starts[0], 1e-9)
        digest.update(np.floor(onsets * RHYTHM_STEPS + RHYTHM_OFFSET).astype("<i4").tobytes())
    return digest.hexdigest()[:32]


def in_parallel(work: Callable, items: list, what: str) -> list:
    """`work` over `items` on all cores, in order; `what` names it when it takes a while."""
    if len(items) < 2:
        return [work(item) for item in items]
    workers = min(os.cpu_count() or 1, len(items))
    with ProcessPoolExecutor(workers, initializer=end_with_parent) as pool:
        results = pool.map(work, items, chunksize=max(1, len(items) // 64))
        return list(track(results, what, "files", len(items)))


def midi_files(root: Path | None) -> list[tuple[str, Path]]:
    """(name, path) of the MIDI files below a folder, sorted by path, each real file once.

    Symlinks are followed. Of several paths to one file that one is kept whose folder states a
    split, else one that is no link. Raises `UserError` if there is no such file.
    """
    if root is None or not root.is_dir():
        raise UserError(f"data.root={root}: not a folder")
    found = files_below(root, ENDINGS)
    if not found:
        raise UserError(f"data.root={root}: no .mid or .midi file in it")
    found.sort(key=lambda file: (folder_side(file[0]) is None, file[2]))
    once = {os.path.realpath(path): (name, path) for name, path, _ in reversed(found)}
    return sorted(once.values(), key=lambda file: file[1])
