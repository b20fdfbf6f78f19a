"""Vectors as one tile image, one pixel per unit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.image
import numpy as np

from musegen.runtime.atomic import replacing

GAP = 1
"""Pixels between tiles, as in the tutorial."""


def tiles(rows: Sequence[np.ndarray]) -> np.ndarray:
    """(tiles, D) arrays in [0, 1], one per row of the sheet → one grey image in [0, 1].

    Vectors whose size is a square number become squares. Others, such as the 88 keys of a
    piano-roll frame, become vertical strips with the first unit at the bottom.
    """
    units = rows[0].shape[-1]
    side = math.isqrt(units)
    height, width = (side, side) if side * side == units else (units, 1)
    columns = max(len(row) for row in rows)
    sheet = np.zeros(
        (len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP), dtype=np.float32
    )
    for r, row in enumerate(rows):
        for c, vector in enumerate(row):
            tile = vector.reshape(height, width)
            top, left = r * (height + GAP), c * (width + GAP)
            sheet[top : top + height, left : left + width] = tile if width > 1 else tile[::-1]
    return sheet


def squared(vectors_ND: np.ndarray) -> list[np.ndarray]:
    """Rows for `tiles`: squares are arranged in a square, strips in one row."""
    n, units = vectors_ND.shape
    columns = math.isqrt(n - 1) + 1 if math.isqrt(units) ** 2 == units else n
    return [vectors_ND[i : i + columns] for i in range(0, n, columns)]


def stretched(vectors_ND: np.ndarray) -> np.ndarray:
    """Each vector scaled to the range [0, 1], to show the shape of weights."""
    low = vectors_ND.min(1, keepdims=True)
    return (vectors_ND - low) / np.maximum(vectors_ND.max(1, keepdims=True) - low, 1e-8)


def write_tiles(rows: Sequence[np.ndarray], path: Path) -> Path:
    """Write `tiles(rows)` as a grey PNG, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, "wb") as file:
        matplotlib.image.imsave(file, tiles(rows), cmap="gray", vmin=0, vmax=1, format="png")
    return path
