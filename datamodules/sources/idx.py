"""MNIST's idx files, plain or gzipped, checked before a byte of them is believed."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np

from musegen.errors import UserError

IMAGES_MAGIC = 0x00000803
"""idx for unsigned bytes in three dimensions: image, row, column."""
MAX_BYTES = 64 << 20
"""A third more than the greatest of the files has; a gzip file may claim to be anything."""


def read_idx_images(path: Path, sha256: str) -> np.ndarray:
    """The images of one idx file, (N, rows · columns) uint8.

    The layout is four big-endian 32-bit numbers (magic 2051, images, rows, columns), then the
    pixels. Raises `UserError`, naming the file, for a wrong magic number, a length that is not
    what the header says, or content whose sha256 (of the *decompressed* bytes) is another.
    """
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise UserError(f"{path}: not a whole gzip file ({e})") from e
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: more than {MAX_BYTES >> 20} MiB unpacked; not MNIST's file")
    magic, *sizes = (int.from_bytes(content[i : i + 4], "big") for i in range(0, 16, 4))
    if magic != IMAGES_MAGIC:
        raise UserError(f"{path}: magic number {magic}, but idx images begin with {IMAGES_MAGIC}")
    n, rows, columns = sizes
    if len(content) != 16 + n * rows * columns:
        raise UserError(
            f"{path}: {len(content):,} bytes, but {n:,} images of {rows}×{columns} take "
            f"{16 + n * rows * columns:,}: truncated, or not one file"
        )
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UserError(f"{path}: sha256 {found[:16]}… instead of {sha256[:16]}…; not MNIST's file")
    return np.frombuffer(content, np.uint8, offset=16).reshape(n, rows * columns)
