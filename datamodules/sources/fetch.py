"""Downloads: mirrors in turn, gone on with where they were cut, checked by hash, moved whole."""

from __future__ import annotations

import gzip
import hashlib
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import requests
from filelock import FileLock
from urllib3.exceptions import HTTPError

from musegen.errors import UserError
from musegen.runtime.atomic import replacing
from musegen.runtime.progress import begin

MEGABYTE = 1e6
CHUNK = 1 << 16
MAX_BYTES = 1 << 30
"""Of a download, and of what is in it; more is not what was asked for."""
PATIENCE = 20.0
"""Seconds within which a mirror has to answer, to send more, and to send `LEAST` bytes."""
LEAST = 20_000
TRIES = 5
"""How often a mirror is asked for the rest, as long as each time brings some of it."""


class Wrong(Exception):
    """A mirror gave what was not asked for."""


def fetch(name: str, urls: Sequence[str], sha256: str, folder: Path, gzipped: bool = False) -> Path:
    """`folder/name`, downloaded from the first mirror that gives the right content.

    With `gzipped` the mirrors have the file's .gz, and the hash is that of what is inside: packing
    the same file twice gives different .gz files. What came before a connection was cut stays in
    `name.part`, and the rest alone is asked for, by a later process too. Of several processes one
    downloads, and the others wait for it.

    Raises `UserError` with the addresses, the hash and the place, for fetching by hand, and where
    the folder cannot be written.
    """
    target, part = folder / name, folder / f"{name}.part"
    if _is_right(target, sha256):
        return target
    problems = []
    try:
        with FileLock(folder / f"{name}.lock"):
            if _is_right(target, sha256):  # another process has been here
                return target
            for url in urls:
                try:
                    _from_mirror(url, part, target, sha256, gzipped)
                    return target
                except (requests.RequestException, Wrong) as e:
                    reason = str(e) if isinstance(e, Wrong) else type(e).__name__
                    problems.append(f"{url} ({reason})")
    except OSError as e:
        raise UserError(f"{folder}: {name} cannot be written there ({e.strerror})") from e
    raise UserError(
        f"{name} could not be downloaded: {'; '.join(problems)}; fetch it by hand "
        f"(sha256 {sha256}) and put it into {folder}, or set data.root to where it is"
    )


def _from_mirror(url: str, part: Path, target: Path, sha256: str, gzipped: bool) -> None:
    """The target by way of the part, which is begun anew where the pieces make no right whole.

    Raises `Wrong`, `requests.RequestException`.
    """
    for again in (True, False):
        in_one_go = False
        try:
            in_one_go = _complete(url, part, target.name)
            with replacing(target, "wb") as file:
                digest = hashlib.sha256()
                for piece in _bounded(_content(part, gzipped)):
                    digest.update(piece)
                    file.write(piece)
                if digest.hexdigest() != sha256:
                    raise Wrong("wrong content")
            part.unlink()
            return
        except Wrong:
            part.unlink(missing_ok=True)
            if in_one_go or not again:
                raise


def _complete(url: str, part: Path, name: str) -> bool:
    """Download what `part` lacks; whether a single answer gave the whole.

    Raises `requests.RequestException` for a mirror that brings nothing more.
    """
    for left in reversed(range(TRIES)):
        before = _size(part)
        try:
            return _more(url, part, name)
        except requests.RequestException:
            if not left or _size(part) <= before:
                raise
    raise AssertionError("the last try returns or raises")


def _more(url: str, part: Path, name: str) -> bool:
    """Append the rest to `part`, or write it anew where the mirror gives no parts."""
    have = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=PATIENCE) as answer:
        if have and answer.status_code == requests.codes.requested_range_not_satisfiable:
            return False  # all is there, if it is the same file
        answer.raise_for_status()
        if answer.status_code != requests.codes.partial_content:
            have = 0
        elif not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise Wrong("another part than was asked for")
        length = answer.headers.get("Content-Length", "")
        total = (have + int(length)) / MEGABYTE if length.isdecimal() else None
        work = begin(f"downloading {name}", total, "MB", have / MEGABYTE)
        with part.open("ab" if have else "wb") as file, work:
            begun = have
            for piece in _bounded(_coming(answer), have):
                file.write(piece)
                have += len(piece)
                work.at(have / MEGABYTE)
    return begun == 0


def _coming(answer: requests.Response) -> Iterator[bytes]:
    """What comes, as it comes, at a pace that leads to an end."""
    since, got = time.monotonic(), 0
    try:
        while piece := answer.raw.read1(CHUNK):
            yield piece
            got += len(piece)
            if (now := time.monotonic()) - since > PATIENCE:
                if got < LEAST:
                    raise requests.ReadTimeout("too slow")
                since, got = now, 0
    except HTTPError as e:
        raise requests.ConnectionError(e) from e


def _content(part: Path, gzipped: bool) -> Iterator[bytes]:
    try:
        with (gzip.open if gzipped else open)(part, "rb") as file:
            while piece := file.read(CHUNK):
                yield piece
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise Wrong("wrong content") from e


def _bounded(pieces: Iterable[bytes], size: int = 0) -> Iterator[bytes]:
    for piece in pieces:
        if (size := size + len(piece)) > MAX_BYTES:
            raise Wrong(f"more than {MAX_BYTES >> 20} MiB")
        yield piece


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _is_right(path: Path, sha256: str) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
