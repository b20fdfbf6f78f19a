"""Downloads: mirrors in turn, checked by hash, moved into place whole."""

from __future__ import annotations

import gzip
import hashlib
import os
import tempfile
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pooch
import requests

from musegen.contracts import UserError
from musegen.progress import Work, begin

MEGABYTE = 1e6
MAX_BYTES = 1 << 30
"""Unpacked; more is not what was asked for."""


class DownloadProgress:
    """`musegen.progress` in the form that pooch takes, where 0 bytes are a length not known."""

    def __init__(self, name: str) -> None:
        self.name, self.total, self.done = name, 0, 0
        self.work: Work | None = None

    def update(self, n: int) -> None:
        """So many bytes more have come."""
        self.done += n
        if self.work is None:
            total = self.total / MEGABYTE if self.total else None
            self.work = begin(f"downloading {self.name}", total, "MB")
        self.work.at(self.done / MEGABYTE)

    def reset(self) -> None:
        self.done = 0

    def close(self) -> None:
        if self.work is not None:
            self.work.close()


def fetch(name: str, urls: Sequence[str], sha256: str, folder: Path) -> Path:
    """`folder/name`, downloaded from the first mirror that gives the right content.

    Raises `UserError` with the addresses, the hash and the place, for fetching by hand.
    """
    problems = []
    for url in urls:
        try:
            with closing(DownloadProgress(name)) as shown:
                downloader = pooch.HTTPDownloader(progressbar=shown)
                found = pooch.retrieve(url, f"sha256:{sha256}", name, folder, downloader=downloader)
            return Path(found)
        except (requests.RequestException, OSError, ValueError) as e:
            reason = "wrong content" if isinstance(e, ValueError) else type(e).__name__
            problems.append(f"{url} ({reason})")
    raise _by_hand(name, problems, sha256, folder)


def fetch_gunzipped(name: str, urls: Sequence[str], sha256: str, folder: Path) -> Path:
    """`folder/name`, from mirrors of its .gz, the hash being that of the *decompressed* file.

    Packing the same file twice gives different .gz files, so only what is inside can be
    checked. The file appears under its name when it is whole and right, not before.

    Raises `UserError` as `fetch`.
    """
    target = folder / name
    if target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() == sha256:
        return target
    problems = []
    for url in urls:
        with tempfile.TemporaryDirectory(dir=folder, prefix="part-") as scratch:
            packed, part = Path(scratch) / "packed", Path(scratch) / "part"
            try:
                with closing(DownloadProgress(name)) as shown:
                    pooch.HTTPDownloader(progressbar=shown)(url, str(packed), None)
                with gzip.open(packed) as file:
                    content = file.read(MAX_BYTES)
            except (requests.RequestException, OSError, EOFError, zlib.error) as e:
                problems.append(f"{url} ({type(e).__name__})")
                continue
            if hashlib.sha256(content).hexdigest() != sha256:
                problems.append(f"{url} (wrong content)")
                continue
            part.write_bytes(content)
            os.replace(part, target)
            return target
    raise _by_hand(name, problems, sha256, folder)


def _by_hand(name: str, problems: list[str], sha256: str, folder: Path) -> UserError:
    return UserError(
        f"{name} could not be downloaded: {'; '.join(problems)}; fetch it by hand "
        f"(sha256 {sha256}) and put it into {folder}, or set data.root to where it is"
    )
