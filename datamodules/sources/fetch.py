"""Downloads: several mirrors, resumed after an interruption, checked by SHA-256, written whole."""

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
"""The limit for a download and for the unpacked content. No file that we need is larger."""
TIMEOUT = 20.0
"""Seconds: a mirror must answer and send data within this time, and `MIN_BYTES` in each period."""
MIN_BYTES = 20_000
ATTEMPTS = 5
"""Requests for the rest of a file, as long as each of them brings new bytes."""


class BadContent(Exception):
    """A mirror sent something else than the file that was requested."""


def fetch(name: str, urls: Sequence[str], sha256: str, folder: Path, gzipped: bool = False) -> Path:
    """Download `folder/name` from the first mirror that has the right content.

    With `gzipped` the mirrors have the file as .gz, and the hash is that of the unpacked file:
    packing the same file twice gives different .gz files. The bytes received before an
    interruption stay in `name.part`, and only the rest is requested, by a later process too. If
    several processes need the file, one of them downloads it and the others wait.

    Raises `UserError` if no mirror has the file or the folder cannot be written. The message
    gives the addresses, the hash and the folder, so that the user can download the file.
    """
    target = folder / name
    if _has_hash(target, sha256):
        return target
    try:
        with FileLock(folder / f"{name}.lock"):
            if not _has_hash(target, sha256):  # another process may have written it meanwhile
                _try_mirrors(urls, target, sha256, gzipped)
    except OSError as e:
        raise UserError(f"{folder}: {name} cannot be written there ({e.strerror})") from e
    return target


def _try_mirrors(urls: Sequence[str], target: Path, sha256: str, gzipped: bool) -> None:
    """Download from the first mirror that has the file. Raises `UserError` if none has it."""
    part = target.with_name(f"{target.name}.part")
    errors = []
    for url in urls:
        try:
            _download_from(url, part, target, sha256, gzipped)
            return
        except (requests.RequestException, BadContent) as e:
            reason = str(e) if isinstance(e, BadContent) else type(e).__name__
            errors.append(f"{url} ({reason})")
    raise UserError(
        f"{target.name} could not be downloaded: {'; '.join(errors)}; download it yourself "
        f"(sha256 {sha256}) and put it into {target.parent}, or set data.root to its folder"
    )


def _download_from(url: str, part: Path, target: Path, sha256: str, gzipped: bool) -> None:
    """Complete `part`, check its content and write it to `target`.

    If the content is wrong although it came in several pieces, the pieces may be from different
    files: the download starts again, once. Raises `BadContent`, `requests.RequestException`.
    """
    for last_attempt in (False, True):
        single_response = False
        try:
            single_response = _complete(url, part, target.name)
            _write_checked(part, target, sha256, gzipped)
            part.unlink()
            return
        except BadContent:
            part.unlink(missing_ok=True)
            if single_response or last_attempt:
                raise


def _write_checked(part: Path, target: Path, sha256: str, gzipped: bool) -> None:
    """Write the content of `part` to `target`. Raises `BadContent` for another hash."""
    with replacing(target, "wb") as file:
        digest = hashlib.sha256()
        for piece in _limit_size(_read_content(part, gzipped)):
            digest.update(piece)
            file.write(piece)
        if digest.hexdigest() != sha256:
            raise BadContent("wrong content")


def _complete(url: str, part: Path, name: str) -> bool:
    """Download what is missing in `part`; whether a single response gave the whole file.

    Raises `requests.RequestException` if the mirror fails and sends no new bytes.
    """
    for attempts_left in reversed(range(ATTEMPTS)):
        before = _size(part)
        try:
            return _request_rest(url, part, name)
        except requests.RequestException:
            if not attempts_left or _size(part) <= before:
                raise
    raise AssertionError("the last attempt returns or raises")


def _request_rest(url: str, part: Path, name: str) -> bool:
    """Append the rest to `part`, or write the whole file if the mirror ignores the range.

    Returns whether this response gave the whole file.
    """
    have = _size(part)
    headers = {"Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if have and response.status_code == requests.codes.requested_range_not_satisfiable:
            return False  # `part` is complete, if it is the same file
        response.raise_for_status()
        if response.status_code != requests.codes.partial_content:
            have = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise BadContent("not the range of bytes that was requested")
        _save_body(response, part, have, name)
    return have == 0


def _save_body(response: requests.Response, part: Path, have: int, name: str) -> None:
    """Append the body to the first `have` bytes of `part`, and show the progress."""
    length = response.headers.get("Content-Length", "")
    total = (have + int(length)) / MEGABYTE if length.isdecimal() else None
    progress = begin(f"downloading {name}", total, "MB", have / MEGABYTE)
    with part.open("ab" if have else "wb") as file, progress:
        for piece in _limit_size(_read_body(response), have):
            file.write(piece)
            have += len(piece)
            progress.at(have / MEGABYTE)


def _read_body(response: requests.Response) -> Iterator[bytes]:
    """The body, as it arrives. Raises `requests.ReadTimeout` if it arrives too slowly."""
    since, received = time.monotonic(), 0
    try:
        while piece := response.raw.read1(CHUNK):
            yield piece
            received += len(piece)
            if (now := time.monotonic()) - since > TIMEOUT:
                if received < MIN_BYTES:
                    raise requests.ReadTimeout("too slow")
                since, received = now, 0
    except HTTPError as e:
        raise requests.ConnectionError(e) from e


def _read_content(part: Path, gzipped: bool) -> Iterator[bytes]:
    """The bytes of a file, unpacked if it is a .gz file."""
    try:
        with (gzip.open if gzipped else open)(part, "rb") as file:
            while piece := file.read(CHUNK):
                yield piece
    except (gzip.BadGzipFile, EOFError, zlib.error) as e:
        raise BadContent("wrong content") from e


def _limit_size(pieces: Iterable[bytes], size: int = 0) -> Iterator[bytes]:
    """The pieces, as long as their bytes and the first `size` ones are within `MAX_BYTES`."""
    for piece in pieces:
        if (size := size + len(piece)) > MAX_BYTES:
            raise BadContent(f"more than {MAX_BYTES >> 20} MiB")
        yield piece


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _has_hash(path: Path, sha256: str) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
