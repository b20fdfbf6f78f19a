"""MNIST's idx files, plain or gzipped, checked by hash before they are used."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np

from musegen.codecs.midi import printable
from musegen.errors import UserError

IMAGES_MAGIC = 0x00000803
"""idx for unsigned bytes in three dimensions: image, row, column."""
GZIP_MAGIC = b"\x1f\x8b"
MAX_BYTES = 64 << 20
"""A third more than the largest of the files has; a gzip file may claim to be anything."""


def find_idx(root: Path, name: str) -> Path:
    """The file that a name such as train-images-idx3-ubyte stands for.

    It is looked for in the folder, in `raw/` and in torchvision's `MNIST/raw/`, and in a folder of
    its own name, as some archives unpack; also with a dot before idx3, and with .gz. Raises
    `UserError`.
    """
    dotted = name.replace("-idx", ".idx")
    for folder in (root, root / "raw", root / "MNIST" / "raw"):
        for path in (folder, *(folder / n for n in (name, dotted))):
            for wanted in (name, dotted):
                for ending in ("", ".gz"):
                    if (found := path / f"{wanted}{ending}").is_file():
                        return found
    raise UserError(
        f"{printable(root)}: holds neither {name} nor {dotted}, with or without .gz, also not in "
        "raw/ or MNIST/raw/"
    )


def read_idx_images(path: Path, sha256: str) -> np.ndarray:
    """The images of one idx file, (N, rows · columns) uint8.

    The layout is four big-endian 32-bit numbers (magic 2051, images, rows, columns), then the
    pixels. Whether a file is gzipped is seen from its first bytes: some programs unpack it and
    leave its name ending in .gz. Raises `UserError`, naming the file, for a wrong magic number, a
    length that is not what the header says, or content whose sha256 (of the *decompressed* bytes)
    is another.
    """
    place = printable(path)
    content = _content(path, place)
    if len(content) > MAX_BYTES:
        raise UserError(f"{place}: more than {MAX_BYTES >> 20} MiB unpacked; not MNIST's file")
    magic, *sizes = (int.from_bytes(content[i : i + 4], "big") for i in range(0, 16, 4))
    if magic != IMAGES_MAGIC:
        raise UserError(f"{place}: magic number {magic}, but idx images begin with {IMAGES_MAGIC}")
    n, rows, columns = sizes
    if len(content) != 16 + n * rows * columns:
        raise UserError(
            f"{place}: {len(content):,} bytes, but {n:,} images of {rows}×{columns} take "
            f"{16 + n * rows * columns:,}: truncated, or not one file"
        )
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UserError(
            f"{place}: sha256 {found[:16]}… instead of {sha256[:16]}…; not MNIST's file"
        )
    return np.frombuffer(content, np.uint8, offset=16).reshape(n, rows * columns)


def _content(path: Path, place: str) -> bytes:
    """At most one byte more than `MAX_BYTES` of a file, unpacked if it is a gzip file."""
    try:
        with path.open("rb") as file:
            if file.read(2) != GZIP_MAGIC:
                file.seek(0)
                return file.read(MAX_BYTES + 1)
        with gzip.open(path, "rb") as unpacked:
            return unpacked.read(MAX_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise UserError(f"{place}: not a whole gzip file ({e})") from e
    except OSError as e:
        raise UserError(f"{place}: cannot be read ({e.strerror})") from e
