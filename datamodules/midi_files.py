"""MIDI files → message streams or notes: found, parsed in parallel, cached by content.

Copies are found by their notes (`notes_key`). The same music with another title, at another tempo
or saved by another program is one piece, so that it cannot be both in training and in test.
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
from datamodules.splits import folder_split
from musegen.codecs.messages import MessageCodec
from musegen.codecs.midi import MAX_BYTES, printable
from musegen.errors import UserError
from musegen.runtime.atomic import replacing
from musegen.runtime.distributed import end_with_parent
from musegen.runtime.progress import track

READER_VERSION = 4
"""A part of the cache key. Increase it when the notes or messages of a file change."""
ENDINGS = (".mid", ".midi", ".kar", ".rmi")
""".kar files (karaoke) are MIDI files with lyrics, .rmi files are MIDI files in a RIFF wrapper."""
MAX_LISTED = 8
"""The number of files that a warning names."""

Onsets = tuple[np.ndarray, np.ndarray]
"""(start in seconds, pitch) of each note, as two arrays in any order."""


class Piece(NamedTuple):
    """A piece as a `MESSAGES` stream. Pieces with the same notes have the same key."""

    name: str
    stream: np.ndarray
    key: str = ""


class Parsed(NamedTuple):
    """The content of a file and its key; or no array and the problem.

    The remark is about a fault that did not prevent reading the file.
    """

    array: np.ndarray | None
    key: str = ""
    problem: str = ""
    remark: str = ""


class File(NamedTuple):
    """The content of a file that was read."""

    name: str
    array: np.ndarray
    key: str


def read_pieces(
    files: Iterable[tuple[str, Path]],
    cache_dir: Path | None,
    codec: MessageCodec,
    split_of: Callable[[str], str | None] = folder_split,
) -> list[Piece]:
    """The message streams of (name, path) pairs, without those that `read_all` leaves out."""
    cache = cache_folder(cache_dir, "messages")
    variant = ("-beats" if codec.in_beats else "") + ("-sustain" if codec.sustain else "")
    return [Piece(*f) for f in read_all(files, cache, variant, codec.read, _onsets, split_of)]


def _onsets(stream: np.ndarray) -> Onsets:
    is_onset = stream["velocity"] > 0
    return np.cumsum(stream["time"], dtype=np.float64)[is_onset], stream["note"][is_onset]


def read_all(
    files: Iterable[tuple[str, Path]],
    cache: Path,
    variant: str,
    parse: Callable[[Path], np.ndarray],
    onsets_of: Callable[[np.ndarray], Onsets],
    split_of: Callable[[str], str | None] = folder_split,
) -> list[File]:
    """The results of `parse` for (name, path) pairs.

    - variant: names the settings of `parse`. Results are cached for each content and variant.
    - onsets_of: gives the onsets in a result.

    Files that cannot be read, files without notes and copies are left out and named in one
    warning. Of files with the same notes one is kept. If `split_of` gives their splits, a file in
    test is preferred to one in validation, and validation to training. Raises `UserError` if
    nothing is left.
    """
    files = list(files)
    read = partial(_read_cached, cache=cache, variant=variant, parse=parse, onsets_of=onsets_of)
    results = in_parallel(read, [path for _, path in files], "reading MIDI")
    keys = [result.key for result in results]
    original = _originals([name for name, _ in files], keys, split_of)
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
        rank_zero_warn(f"{len(remarks)} of {len(files)} MIDI files have a fault: {_join(remarks)}")
    return pieces


def _originals(
    names: Sequence[str], keys: Sequence[str], split_of: Callable[[str], str | None]
) -> dict[str, str]:
    """The name of the file that is kept, for each key."""
    order = {"test": 0, "val": 1, "train": 2, None: 3}
    ranked = sorted(zip(names, keys, strict=True), key=lambda file: order[split_of(file[0])])
    return {key: name for name, key in reversed(ranked)}


def warn_left_out(problems: list[str], n: int) -> None:
    """Give one warning that names the files left out, if there are any."""
    if problems:
        rank_zero_warn(f"{len(problems)} of {n} MIDI files left out: {_join(problems)}")


def _join(lines: list[str]) -> str:
    return "; ".join(lines[:MAX_LISTED]) + ("; …" if len(lines) > MAX_LISTED else "")


def _read_cached(
    path: Path,
    cache: Path,
    variant: str,
    parse: Callable[[Path], np.ndarray],
    onsets_of: Callable[[np.ndarray], Onsets],
) -> Parsed:
    try:
        with path.open("rb") as file:  # `parse` refuses a larger file
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
"""The resolution of the rhythm of a short piece is a hundredth of its length. The offset is not a
ratio of small numbers, so that onsets are rarely on a boundary, where rounding would matter."""


def notes_key(starts: np.ndarray, pitches: np.ndarray) -> str:
    """The key of a piece: a hash of its pitches in the order of their onsets.

    Title, tempo, velocities, durations, instruments and ticks per beat make no difference, so that
    a copy is recognised after another program has saved it. A transposed piece is another piece.
    With fewer than 32 notes different pieces may have the same pitches; then the rhythm is hashed
    too, as onsets divided by the length of the piece.
    """
    starts, pitches = np.unique(np.stack([starts, pitches]), axis=1)  # sorted by start, then pitch
    digest = hashlib.sha256(pitches.astype(np.uint8).tobytes())
    if 0 < len(starts) < FEW_NOTES:
        onsets = (starts - starts[0]) / max(starts[-1] - starts[0], 1e-9)
        digest.update(np.floor(onsets * RHYTHM_STEPS + RHYTHM_OFFSET).astype("<i4").tobytes())
    return digest.hexdigest()[:32]


def in_parallel(work: Callable, items: list, what: str) -> list:
    """The results of `work` for `items`, computed on all cores, in order.

    `what` is the title of the progress bar.
    """
    if len(items) < 2:
        return [work(item) for item in items]
    workers = min(os.cpu_count() or 1, len(items))
    with ProcessPoolExecutor(workers, initializer=end_with_parent) as pool:
        results = pool.map(work, items, chunksize=max(1, len(items) // 64))
        return list(track(results, what, "files", len(items)))


def midi_files(root: Path | None) -> list[tuple[str, Path]]:
    """(name, path) of the MIDI files below a folder, sorted by path, each real file once.

    Links are followed. If several paths lead to one file, a path in a folder such as train/ is
    preferred, and then a path without links. Raises `UserError` if there is no MIDI file.
    """
    if root is None or not root.is_dir():
        raise UserError(f"data.root={root}: not a folder")
    found = files_below(root, ENDINGS)
    if not found:
        raise UserError(f"data.root={root}: has no .mid or .midi file")
    found.sort(key=lambda file: (folder_split(file[0]) is None, file[2]))
    unique = {os.path.realpath(path): (name, path) for name, path, _ in reversed(found)}
    return sorted(unique.values(), key=lambda file: file[1])
