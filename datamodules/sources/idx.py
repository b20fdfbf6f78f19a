"""MNIST's idx files, plain or gzipped, checked by SHA-256 before they are used."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np

from musegen.codecs.midi import printable
from musegen.errors import UserError

IMAGES_MAGIC = 0x00000803
"""The magic number of idx for unsigned bytes in three dimensions: image, row, column."""
GZIP_MAGIC = b"\x1f\x8b"
MAX_BYTES = 64 << 20
"""A third more than the largest file. Without a limit a gzip file could fill the memory."""


def find_idx(root: Path, name: str) -> Path:
    """Find the file with a name such as train-images-idx3-ubyte.

    It may be in the folder, in `raw/`, in torchvision's `MNIST/raw/`, or in a folder with the name
    of the file, which some archives create. There may be a dot before idx3, and .gz at the end.
    Raises `UserError` if there is no such file.
    """
    dotted = name.replace("-idx", ".idx")
    for folder in (root, root / "raw", root / "MNIST" / "raw"):
        for path in (folder, *(folder / n for n in (name, dotted))):
            for spelling in (name, dotted):
                for ending in ("", ".gz"):
                    if (found := path / f"{spelling}{ending}").is_file():
                        return found
    raise UserError(
        f"{printable(root)}: has neither {name} nor {dotted}, with or without .gz, also not in "
        "raw/ or MNIST/raw/"
    )


def read_idx_images(path: Path, sha256: str) -> np.ndarray:
    """The images of one idx file, (N, rows · columns) uint8.

    The file has four big-endian 32-bit numbers (magic 2051, images, rows, columns) and then the
    pixels. The first bytes show whether it is gzipped: some programs unpack a file and keep the
    ending .gz. `sha256` is that of the unpacked bytes. Raises `UserError` for a wrong magic number,
    a length that differs from the header, or another hash.
    """
    place = printable(path)
    content = _content(path, place)
    if len(content) > MAX_BYTES:
        raise UserError(f"{place}: more than {MAX_BYTES >> 20} MiB unpacked; not MNIST's file")
    magic, *sizes = (int.from_bytes(content[i : i + 4], "big") for i in range(0, 16, 4))
    if magic != IMAGES_MAGIC:
        raise UserError(f"{place}: magic number {magic}, but idx images start with {IMAGES_MAGIC}")
    n, rows, columns = sizes
    if len(content) != 16 + n * rows * columns:
        raise UserError(
            f"{place}: {len(content):,} bytes, but {n:,} images of {rows}×{columns} need "
            f"{16 + n * rows * columns:,}: truncated, or several files"
        )
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UserError(
            f"{place}: sha256 {found[:16]}… instead of {sha256[:16]}…; not MNIST's file"
        )
    return np.frombuffer(content, np.uint8, offset=16).reshape(n, rows * columns)


def _content(path: Path, place: str) -> bytes:
    """The first `MAX_BYTES` + 1 bytes of a file, unpacked if it is a gzip file."""
    try:
        with path.open("rb") as file:
            if file.read(2) != GZIP_MAGIC:
                file.seek(0)
                return file.read(MAX_BYTES + 1)
        with gzip.open(path, "rb") as unpacked:
            return unpacked.read(MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise UserError(f"{place}: not a complete gzip file ({e})") from e
    except OSError as e:
        raise UserError(f"{place}: cannot be read ({e.strerror})") from e
