"""MIDI files → message streams or notes: found, parsed in parallel, cached by content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from datamodules.base import cache_folder
from musegen.codecs.messages import notes_to_messages
from musegen.codecs.midi import MAX_BYTES, read_notes
from musegen.errors import UserError
from musegen.runtime.atomic import replacing
from musegen.runtime.distributed import end_with_parent
from musegen.runtime.progress import track

READER_VERSION = 2
"""Part of the cache key: raise it when `read_notes` or `notes_to_messages` changes its result."""


class Piece(NamedTuple):
    """A named `MESSAGES` stream."""

    name: str
    stream: np.ndarray


def read_pieces(
    files: Iterable[tuple[str, Path]], cache_dir: Path | None, sustain: bool
) -> list[Piece]:
    """Parse (name, path) pairs into streams; left out is what `read_all` leaves out."""
    parse = partial(_stream, sustain=sustain)
    variant = "-sustain" if sustain else ""
    return [Piece(*p) for p in read_all(files, cache_folder(cache_dir, "messages"), variant, parse)]


def _stream(path: Path, sustain: bool) -> np.ndarray:
    return notes_to_messages(read_notes(path, sustain=sustain))


def read_all(
    files: Iterable[tuple[str, Path]],
    cache: Path,
    variant: str,
    parse: Callable[[Path], np.ndarray],
) -> list[tuple[str, np.ndarray]]:
    """(name, `parse(path)`) of (name, path) pairs, each file parsed once ever per content and
    `variant`, which names the settings of `parse`.

    Files that cannot be read or hold no notes are left out and named in one warning, exact
    copies too. Raises `UserError` if nothing is left.
    """
    files = list(files)
    read = partial(_read_cached, cache=cache, variant=variant, parse=parse)
    paths = [path for _, path in files]
    results = in_parallel(read, paths, "reading MIDI")
    pieces, skipped, seen = [], [], set()
    for (name, _), (array, digest, problem) in zip(files, results, strict=True):
        if array is not None and digest in seen:
            problem = f"{name}: the same content as another file"
        elif array is not None:
            seen.add(digest)
            pieces.append((name, array))
        if problem:
            skipped.append(problem)
    if not pieces:
        why = f"; the first problem: {skipped[0]}" if skipped else ""
        raise UserError(f"no usable MIDI file among {len(files)}{why}")
    warn_left_out(skipped, len(files))
    return pieces


def warn_left_out(problems: list[str], n: int) -> None:
    """One warning that names the files left out of n, if there are any."""
    if problems:
        listed = "; ".join(problems[:8]) + ("; …" if len(problems) > 8 else "")
        rank_zero_warn(f"{len(problems)} of {n} MIDI files left out: {listed}")


def _read_cached(
    path: Path, cache: Path, variant: str, parse: Callable[[Path], np.ndarray]
) -> tuple[np.ndarray | None, str, str]:
    """(array, content hash, problem): array is None where there is a problem."""
    try:
        with path.open("rb") as file:  # of a larger one nothing will be read but its size
            digest = hashlib.sha256(file.read(MAX_BYTES)).hexdigest()
    except OSError as e:
        return None, "", f"{path}: {e.strerror}"
    entry = cache / f"{digest[:32]}-v{READER_VERSION}{variant}.npy"
    if entry.exists():
        try:
            return np.load(entry, allow_pickle=False), digest, ""
        except (ValueError, OSError, EOFError):
            entry.unlink(missing_ok=True)  # damaged: parse again
    try:
        array = parse(path)
    except UserError as e:
        return None, digest, str(e)
    if not len(array):
        return None, digest, f"{path}: no notes outside the percussion channel"
    with replacing(entry, "wb") as file:
        np.save(file, array)
    return array, digest, ""


def in_parallel(work: Callable, items: list, what: str) -> list:
    """`work` over `items` on all cores, in order; `what` names it when it takes a while."""
    if len(items) < 2:
        return [work(item) for item in items]
    workers = min(os.cpu_count() or 1, len(items))
    with ProcessPoolExecutor(workers, initializer=end_with_parent) as pool:
        results = pool.map(work, items, chunksize=max(1, len(items) // 64))
        return list(track(results, what, "files", len(items)))


def midi_files(root: Path | None) -> list[tuple[str, Path]]:
    """(name, path) of the .mid and .midi files below a folder, sorted. `UserError` if none."""
    if root is None or not root.is_dir():
        raise UserError(f"data.root={root}: not a folder")
    named = (p for p in root.rglob("*") if p.suffix.lower() in (".mid", ".midi"))
    files = sorted(p for p in named if p.is_file())  # a pipe would be waited for
    if not files:
        raise UserError(f"data.root={root}: no .mid or .midi file in it")
    return [(p.relative_to(root).as_posix(), p) for p in files]
