"""MIDI files → message streams or notes: found, parsed in parallel, kept on disk by content.

Copies are found by their notes (`notes_key`). The same music with another title, at another tempo
or saved by another program is one piece, so that it cannot be both in training and in test.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from datamodules.base import cache_folder
from datamodules.files import files_below
from datamodules.midi_cache import Hashes, Packs, Stamp, hashed, stamp_of
from datamodules.splits import folder_split
from musegen.codecs import midi_compiled
from musegen.codecs.messages import MessageCodec
from musegen.codecs.midi import MAX_BYTES, printable
from musegen.errors import UserError
from musegen.runtime.distributed import end_with_parent
from musegen.runtime.progress import track

READER_VERSION = 5
"""A part of the cache key. Increase it when the notes or messages of a file change."""
ENDINGS = (".mid", ".midi", ".kar", ".rmi")
""".kar files (karaoke) are MIDI files with lyrics, .rmi files are MIDI files in a RIFF wrapper."""
COMPILED_FROM = 1 << 20
"""Bytes from which on the compiled reader is used. The other one takes 1.5 s per megabyte. Loading
the compiled one takes 0.4 s, and compiling it, once per computer, 5 s."""
MAX_CHUNK = 64
"""Files that a worker reads at a time: the progress is shown in such steps."""
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
    """The hash of a file, and what was read from it unless this content was known already.

    - array: None if the content is known, and for a file with a problem.
    - key: that of the notes. remark: about a fault that did not prevent reading the file.
    - stamp, hashed_at: see `Hashes.add`; no stamp if the file changed while it was read.
    """

    digest: str = ""
    stamp: Stamp | None = None
    hashed_at: int = 0
    array: np.ndarray | None = None
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

    - variant: names the settings of `parse`. Results are kept for each content and variant.
    - onsets_of: gives the onsets in a result.

    Files that cannot be read, files without notes and copies are left out and named in one
    warning. Of files with the same notes one is kept. If `split_of` gives their splits, a file in
    test is preferred to one in validation, and validation to training. Raises `UserError` if
    nothing is left.
    """
    files = list(files)
    packs = Packs(cache, f"-v{READER_VERSION}{variant}")
    paths = [path for _, path in files]
    digests, problems, remarks = _read_new(paths, cache, packs, parse, onsets_of)
    keys = [packs.key(d) if d else "" for d in digests]
    original = _originals([name for name, _ in files], keys, split_of)
    pieces, left_out = [], []
    for (name, _), digest, key, problem in zip(files, digests, keys, problems, strict=True):
        if not digest:
            left_out.append(problem)
        elif original[key] != name:
            left_out.append(f"{name}: the same notes as {original[key]}")
        else:
            pieces.append(File(name, packs.array(digest), key))
    if not pieces:
        why = f"; the first problem: {left_out[0]}" if left_out else ""
        raise UserError(f"no usable MIDI file among {len(files)}{why}")
    warn_left_out(left_out, len(files))
    if remarks:
        rank_zero_warn(f"{len(remarks)} of {len(files)} MIDI files have a fault: {_join(remarks)}")
    return pieces


def _read_new(
    paths: list[Path],
    cache: Path,
    packs: Packs,
    parse: Callable[[Path], np.ndarray],
    onsets_of: Callable[[np.ndarray], Onsets],
) -> tuple[list[str], list[str], list[str]]:
    """Read the files whose contents are not in `packs`, and add them.

    Returns the digest and the problem of each file, one of them empty, and the remarks.
    """
    hashes = Hashes(cache, paths)
    digests = [digest if (digest := hashes.known(p)) and digest in packs else "" for p in paths]
    problems, remarks = [""] * len(paths), []
    if new := [i for i, digest in enumerate(digests) if not digest]:
        known = frozenset(digest for digest in packs.contents if digest in packs)
        compiled = sum(_size(paths[i]) for i in new) >= COMPILED_FROM
        if compiled:
            midi_compiled.prepare()  # before the workers are forked
        read = partial(_read, known=known, parse=parse, onsets_of=onsets_of, compiled=compiled)
        results = in_turn(read, [paths[i] for i in new], "reading MIDI", warm_up=False)
        with packs.writing() as writer:
            for i, parsed in zip(new, results, strict=True):
                if parsed.problem:
                    problems[i] = parsed.problem
                    continue
                digests[i] = parsed.digest
                if parsed.array is not None:
                    writer.add(parsed.digest, parsed.array, parsed.key)
                if parsed.stamp is not None:
                    hashes.add(paths[i], parsed.stamp, parsed.hashed_at, parsed.digest)
                if parsed.remark:
                    remarks.append(parsed.remark)
    hashes.write()
    return digests, problems, remarks


def _size(path: Path) -> int:
    try:
        return min(path.stat().st_size, MAX_BYTES)
    except OSError:
        return 0


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


def _read(
    path: Path,
    known: frozenset[str],
    parse: Callable[[Path], np.ndarray],
    onsets_of: Callable[[np.ndarray], Onsets],
    compiled: bool,
) -> Parsed:
    if compiled:
        midi_compiled.prepare()  # again, where workers are not forked
    try:
        stamp, hashed_at, digest = hashed(path, MAX_BYTES)  # `parse` refuses a larger file
        if digest in known:
            return Parsed(digest, stamp, hashed_at)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            array = parse(path)
        unchanged = stamp == stamp_of(path.stat())
    except OSError as e:
        return Parsed(problem=f"{printable(path)}: {e.strerror}")
    except UserError as e:
        return Parsed(problem=str(e))
    if not len(array):
        return Parsed(problem=f"{printable(path)}: no notes outside the percussion channel")
    remark = "; ".join(str(w.message) for w in caught)
    key = notes_key(*onsets_of(array))
    return Parsed(digest, stamp if unchanged else None, hashed_at, array, key, remark=remark)


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
    order = np.lexsort((pitches, starts))
    starts, pitches = starts[order], pitches[order]
    different = (np.diff(starts) > 0) | (np.diff(pitches.astype(int)) != 0)
    first = np.concatenate([np.ones(min(1, len(starts)), bool), different])
    starts, pitches = starts[first], pitches[first]
    digest = hashlib.sha256(pitches.astype(np.uint8).tobytes())
    if 0 < len(starts) < FEW_NOTES:
        onsets = (starts - starts[0]) / max(starts[-1] - starts[0], 1e-9)
        digest.update(np.floor(onsets * RHYTHM_STEPS + RHYTHM_OFFSET).astype("<i4").tobytes())
    return digest.hexdigest()[:32]


def in_parallel(work: Callable, items: list, what: str) -> list:
    """The results of `work` for `items`, computed on all cores, in order.

    `what` is the title of the progress bar.
    """
    return list(in_turn(work, items, what))


def in_turn(work: Callable, items: list, what: str, warm_up: bool = True) -> Iterator[Any]:
    """As `in_parallel`, each result as soon as it and those before it are there.

    For `warm_up` see `track`.
    """
    if len(items) < 2:
        yield from map(work, items)
        return
    workers = min(os.cpu_count() or 1, len(items))
    with ProcessPoolExecutor(workers, initializer=end_with_parent) as pool:
        results = pool.map(work, items, chunksize=max(1, min(len(items) // 64, MAX_CHUNK)))
        yield from track(results, what, "files", len(items), warm_up=warm_up)


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
    real_folder = {folder: os.path.realpath(folder) for folder in {p.parent for _, p, _ in found}}
    unique = {_real(path, real_folder): (name, path) for name, path, _ in reversed(found)}
    return sorted(unique.values(), key=lambda file: file[1])


def _real(path: Path, real_folder: dict[Path, str]) -> str:
    """The real path. Most files are no links, and share their folder with others."""
    if path.is_symlink():
        return os.path.realpath(path)
    return os.path.join(real_folder[path.parent], path.name)
