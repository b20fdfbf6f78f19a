"""What was read from MIDI files, on disk: packs of arrays, and the hashes of files.

A pack is one .npy file with the arrays of all files that were read at one time, one after the
other, and a .json file that says which content (SHA-256) is where. Packs are mapped into memory, so
that a corpus may be larger than memory; they are never changed. Contents are found in any pack,
wherever their files are now.

The hash of a file is computed again unless the file has the size, the times, and the number
(inode) that it had, and was at rest when it was hashed.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musegen.errors import UserError
from musegen.runtime.atomic import replacing

Stamp = tuple[int, int, int, int]
"""Size, time of the last change of the content, of the file (both in ns), and inode."""
AT_REST = 2 * 10**9
"""A file that changed so few nanoseconds before it was hashed may have changed afterwards, too,
without another time: some file systems count in steps of two seconds."""


def stamp_of(status: os.stat_result) -> Stamp:
    """What changes if a file changes."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


class Hashes:
    """The hashes of the files of one folder (`common` to all paths), by their stamps."""

    def __init__(self, cache: Path, paths: Iterable[Path]) -> None:
        names = [os.path.abspath(path) for path in paths]
        # What the first and the last one in order have in common, all have.
        common = os.path.commonpath([min(names), max(names)]) if names else ""
        name = hashlib.sha256(os.fsencode(common)).hexdigest()[:32]
        self.file = cache / f"hashes-{name}.json"
        self.before: dict[str, list[Any]] = _json(self.file).get("files", {})
        self.now: dict[str, list[Any]] = {}

    def known(self, path: Path) -> str | None:
        """The hash of a file, if its stamp shows that it has not changed."""
        name = os.path.abspath(path)
        try:
            *stamp, hashed_at, digest = self.before[name]
            if tuple(stamp) != stamp_of(os.stat(path)) or max(stamp[1:3]) + AT_REST > hashed_at:
                return None
        except (KeyError, OSError, ValueError, TypeError):
            return None
        self.now[name] = self.before[name]
        return str(digest)

    def add(self, path: Path, stamp: Stamp, hashed_at: int, digest: str) -> None:
        """Remember the hash of a file; `hashed_at` is a `time.time_ns()` before it was read."""
        self.now[os.path.abspath(path)] = [*stamp, hashed_at, digest]

    def write(self) -> None:
        """Write the hashes of the present files, if they differ from those before.

        A folder that cannot be written is no error: the files are hashed again at the next start.
        """
        if self.now != self.before:
            with suppress(UserError):
                _write_json(self.file, {"files": self.now})


class Content(NamedTuple):
    """Where the array of a content is: in which pack, from which element to which one."""

    pack: str
    start: int
    stop: int
    key: str
    """The key of its notes."""


class Packs:
    """The arrays of contents, by their hashes. `kind` says how files were read."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.contents: dict[str, Content] = {}
        self.arrays: dict[str, np.ndarray | None] = {}
        """The packs that are open; None for one that was damaged, and is removed."""
        for file in sorted(folder.glob(f"*{kind}.json")):
            if contents := _json(file).get("contents"):
                self._add(file.stem, contents)
            else:
                self._remove(file.stem)

    def _add(self, pack: str, contents: dict[str, list[Any]]) -> None:
        for digest, (start, stop, key) in contents.items():
            self.contents[digest] = Content(pack, start, stop, key)

    def __contains__(self, digest: str) -> bool:
        content = self.contents.get(digest)
        if content is None:
            return False
        pack = self._open(content.pack)
        return pack is not None and content.stop <= len(pack)

    def key(self, digest: str) -> str:
        """The key of the notes of a content."""
        return self.contents[digest].key

    def array(self, digest: str) -> np.ndarray:
        """The array of a content, read from disk when it is used."""
        content = self.contents[digest]
        pack = self._open(content.pack)
        assert pack is not None
        return pack[content.start : content.stop]

    def _open(self, pack: str) -> np.ndarray | None:
        if pack not in self.arrays:
            try:
                mapped = np.load(self.folder / f"{pack}.npy", mmap_mode="r", allow_pickle=False)
                self.arrays[pack] = np.asarray(mapped)  # parts of a memmap are slow to make
            except (ValueError, OSError, EOFError):
                self.arrays[pack] = None
                self._remove(pack)
        return self.arrays[pack]

    def _remove(self, pack: str) -> None:
        """Remove a damaged pack."""
        for ending in ("npy", "json"):
            with suppress(OSError):
                (self.folder / f"{pack}.{ending}").unlink()

    @contextmanager
    def writing(self) -> Iterator[PackWriter]:
        """Add contents as a new pack, if the block adds one to the writer."""
        pack = f"{secrets.token_hex(8)}{self.kind}"
        with ExitStack() as stack:
            writer = PackWriter(stack, self.folder / f"{pack}.npy")
            yield writer
            writer.finish()
        if writer.contents:
            _write_json(self.folder / f"{pack}.json", {"contents": writer.contents})
            self._add(pack, writer.contents)


class PackWriter:
    """Writes arrays of one dtype one after the other, as one .npy file."""

    def __init__(self, stack: ExitStack, path: Path) -> None:
        self.stack, self.path = stack, path
        self.file: Any = None
        self.dtype: np.dtype[Any] | None = None
        self.length = 0
        self.contents: dict[str, list[Any]] = {}
        """Start, stop and key, by digest."""

    def add(self, digest: str, array: np.ndarray, key: str) -> None:
        """Append an array, unless its content is there already."""
        if digest in self.contents:
            return
        if self.dtype is None:
            self.dtype = array.dtype
            self.file = self.stack.enter_context(replacing(self.path, "wb"))
            self._write_header()
        assert array.dtype == self.dtype
        self.contents[digest] = [self.length, self.length + len(array), key]
        self.length += len(array)
        self.file.write(np.ascontiguousarray(array).data)

    def finish(self) -> None:
        """Write the header again, now with the length. It has room for any."""
        if self.dtype is not None:
            before = self.file.tell()
            self.file.seek(0)
            self._write_header()
            self.file.seek(before)

    def _write_header(self) -> None:
        description = np.lib.format.dtype_to_descr(self.dtype)  # type: ignore[arg-type]
        header = {"descr": description, "fortran_order": False, "shape": (self.length,)}
        np.lib.format.write_array_header_1_0(self.file, header)


def hashed(path: Path, limit: int) -> tuple[Stamp, int, str]:
    """The stamp of a file, the time, and the hash of its first `limit` bytes."""
    with path.open("rb") as file:
        now = time.time_ns()
        stamp = stamp_of(os.fstat(file.fileno()))
        return stamp, now, hashlib.sha256(file.read(limit)).hexdigest()


def _json(file: Path) -> dict[str, Any]:
    """The content of a file that `_write_json` wrote; empty if it is missing or damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_json(file: Path, content: dict[str, Any]) -> None:
    """Escapes whatever is not ASCII: a name may have bytes that are not UTF-8."""
    with replacing(file, encoding="utf-8") as opened:
        json.dump(content, opened)
