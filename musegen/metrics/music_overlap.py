"""Distributions of a metric over excerpts of pieces, and how much two of them overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from scipy.ndimage import gaussian_filter1d

MAX_EXCERPTS = 128
"""Excerpts per side at most. They give eight thousand distances within a side."""
GRID = 256
"""Points at which the densities are compared."""

Item = TypeVar("Item")


def overlap(values: np.ndarray, reference: np.ndarray) -> float:
    """The overlap ∫ min(p, q) of two densities of distances (Yang & Lerch 2020); 1 is best.

    p is the density of |a − b| over pairs within `reference`, and q that of |a − v| between
    `reference` and `values`: Gaussian kernel density estimates on one grid from 0 to the largest
    distance. Both have Scott's bandwidth for the pairs within `reference`; with bandwidths of
    their own, two sets with nearly all values equal would not overlap. NaN if `values` is empty
    or `reference` has fewer than two values.
    """
    if len(values) == 0 or len(reference) < 2:
        return float("nan")
    i, j = np.triu_indices(len(reference), 1)
    within = np.abs(reference[i] - reference[j])
    across = np.abs(reference[:, None] - values).ravel()
    largest = max(within.max(), across.max())
    if largest == 0:
        return 1.0
    bandwidth = within.std(ddof=1) * len(within) ** -0.2 if len(within) > 1 else 0.0
    p, q = (density(distances, largest, bandwidth) for distances in (within, across))
    return float(np.minimum(p, q).sum())


def density(distances: np.ndarray, largest: float, bandwidth: float) -> np.ndarray:
    """A Gaussian kernel density at `GRID` points from 0 to `largest`; its sum is 1.

    Each distance is divided between the two points beside it, in proportion to its closeness, so
    that one convolution gives the density of any number of distances. The bandwidth is at least
    one step of the grid.
    """
    step = largest / (GRID - 1)
    below = np.minimum((distances / step).astype(int), GRID - 2)
    above = distances / step - below
    points = np.bincount(below, 1 - above, GRID) + np.bincount(below + 1, above, GRID)
    smooth = gaussian_filter1d(points, max(bandwidth / step, 1.0), mode="constant", truncate=6)
    result: np.ndarray = smooth / smooth.sum()
    return result


def excerpts(piece: np.ndarray, seconds: float, most: int = MAX_EXCERPTS) -> list[np.ndarray]:
    """Excerpts of a piece that have a note, each shifted to time 0: at most `most`, evenly spaced.

    Notes are cut at both ends of an excerpt, so that a chord that never ends is in all of them. A
    last excerpt of less than half the length is left out, unless it is the only one.
    """
    count = max(1, int(float(piece["end"].max()) / seconds + 0.5))
    result = []
    for k in range(count):
        first = k * seconds
        inside = piece[(piece["end"] > first + 1e-6) & (piece["start"] < first + seconds - 1e-6)]
        inside = inside.copy()
        inside["start"] = np.maximum(inside["start"] - first, 0.0)
        inside["end"] = np.minimum(inside["end"] - first, seconds)
        if len(inside):
            result.append(inside[np.lexsort((inside["pitch"], inside["start"]))])
    return evenly(result, most)


def excerpts_of(pieces: Sequence[np.ndarray], seconds: float) -> list[list[np.ndarray]]:
    """The excerpts of each piece, evenly spaced, at most `MAX_EXCERPTS` in total.

    A piece with notes only in what is left out at its end has none, and is left out.
    """
    per_piece = max(1, MAX_EXCERPTS // max(1, len(pieces)))
    cut = (excerpts(piece, seconds, per_piece) for piece in evenly(pieces, MAX_EXCERPTS))
    return [found for found in cut if found]


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]
