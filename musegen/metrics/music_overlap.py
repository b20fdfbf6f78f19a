"""Comparison of the metrics of generated pieces with those of the training set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from musegen.metrics.music import BEAT, LABELS, piece_metrics
from musegen.runtime.random_streams import Stream, random_stream

MAX_EXCERPTS = 64
"""Excerpts per side at most. They give two thousand distances within a side."""
MIN_BEATS = 16
"""The minimum length of an excerpt in beats. A shorter one has no groove."""
DRAWS = 10
"""Draws of training pieces for the ceiling."""
GRID = 256
"""Points at which the densities are compared."""


def compare(
    samples: Sequence[np.ndarray], training: Sequence[np.ndarray], beat: float = BEAT
) -> dict[str, dict[str, float]]:
    """Compare each metric of `LABELS` between the samples and the training set.

    For each metric: the means `samples` and `training`, and after Yang & Lerch (2020) the
    `overlap` and `kl` of two densities: of the distances between training excerpts, and of the
    distances from sample excerpts to training excerpts (see `overlap_and_kl`). `ceiling_overlap`
    and `ceiling_kl` are the same with training pieces in place of the samples: equally many of
    them (at most half) against the others, the mean of ten draws. NaN if one side has no value.

    Range, entropies and repetition increase with the length of a piece. Therefore all pieces are
    cut into excerpts of one length, the smaller of the two sides' median lengths. Returns an empty
    dict if no sample has a note, or for fewer than two training pieces.
    """
    samples, training = ([p for p in side if len(p)] for side in (samples, training))
    if not samples or len(training) < 2:
        return {}
    medians = [float(np.median([p["end"].max() for p in side])) for side in (samples, training)]
    seconds = max(min(medians), MIN_BEATS * beat)
    of_samples, of_training = (_table(side, seconds, beat) for side in (samples, training))
    n = min(len(of_samples), len(of_training) // 2)
    rng = random_stream(Stream.MUSIC_OVERLAP, 0)
    draws = [rng.choice(len(of_training), n, replace=False) for _ in range(DRAWS)]
    return {
        name: _compare_metric(_values(of_samples, name), _values(of_training, name), draws)
        for name in LABELS
    }


def _compare_metric(
    samples: list[np.ndarray], training: list[np.ndarray], draws: list[np.ndarray]
) -> dict[str, float]:
    """`compare` for one metric, from its values per piece."""
    overlap, kl = overlap_and_kl(np.concatenate(samples), np.concatenate(training))
    ceilings = []
    for draw in draws:
        drawn = [training[i] for i in draw]
        others = [values for i, values in enumerate(training) if i not in draw]
        ceilings.append(overlap_and_kl(np.concatenate(drawn), np.concatenate(others)))
    ceiling_overlap, ceiling_kl = np.mean(ceilings, axis=0)
    return {
        "samples": _mean(samples),
        "training": _mean(training),
        "overlap": overlap,
        "kl": kl,
        "ceiling_overlap": float(ceiling_overlap),
        "ceiling_kl": float(ceiling_kl),
    }


def overlap_and_kl(values: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Overlap area ∫ min(p, q) and KL divergence ∫ p log(p/q), in nats, of two densities.

    p is the density of |a − b| over pairs within `reference`, and q that of |a − v| between
    `reference` and `values`. Both are Gaussian kernel density estimates with Scott's bandwidth,
    on one grid from 0 to the largest distance. The best values are overlap 1 and KL 0. NaN if
    `values` is empty or `reference` has fewer than two values.
    """
    if len(values) == 0 or len(reference) < 2:
        return float("nan"), float("nan")
    i, j = np.triu_indices(len(reference), 1)
    within = np.abs(reference[i] - reference[j])
    across = np.abs(reference[:, None] - values).ravel()
    largest = max(within.max(), across.max())
    if largest == 0:
        return 1.0, 0.0
    grid = np.linspace(0, largest, GRID)
    p, q = _density(within, grid), _density(across, grid)
    return float(np.minimum(p, q).sum()), float((p * np.log(p / q)).sum())


def _density(distances: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """A Gaussian kernel density at the points of the grid, positive and with sum 1."""
    scott = distances.std(ddof=1) * len(distances) ** -0.2 if len(distances) > 1 else 0.0
    # Equal distances have a standard deviation of 0. The bandwidth is at least the grid's step.
    bandwidth = max(scott, grid[1])
    density: np.ndarray = np.exp(-0.5 * ((grid[:, None] - distances) / bandwidth) ** 2).mean(1)
    density = density + 1e-12
    result: np.ndarray = density / density.sum()
    return result


def _table(
    pieces: Sequence[np.ndarray], seconds: float, beat: float
) -> list[list[dict[str, float]]]:
    """`piece_metrics` of the excerpts of each piece, at most `MAX_EXCERPTS` in total."""
    per_piece = max(1, MAX_EXCERPTS // len(pieces))
    chosen = _evenly(pieces, MAX_EXCERPTS)
    return [
        [piece_metrics(e, beat) for e in _evenly(excerpts(piece, seconds), per_piece)]
        for piece in chosen
    ]


def excerpts(piece: np.ndarray, seconds: float) -> list[np.ndarray]:
    """Successive excerpts of a piece that have a note, each shifted to time 0.

    A note belongs to the excerpt in which it starts, and is cut at the excerpt's end. A last
    excerpt of less than half the length is left out, unless it is the only one.
    """
    length = float(piece["end"].max())
    count = max(1, int(length / seconds + 0.5))
    result = []
    for k in range(count):
        first = k * seconds
        inside = piece[(piece["start"] >= first) & (piece["start"] < first + seconds)].copy()
        inside["start"] -= first
        inside["end"] = np.minimum(inside["end"] - first, seconds)
        if len(inside):
            result.append(inside)
    return result


def _evenly(items: Sequence[np.ndarray], most: int) -> list[np.ndarray]:
    """At most `most` of the items, evenly spaced."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _values(table: list[list[dict[str, float]]], name: str) -> list[np.ndarray]:
    """One array of a metric's values per piece, without NaN."""
    values = [np.array([metrics[name] for metrics in piece], float) for piece in table]
    return [v[~np.isnan(v)] for v in values]


def _mean(values: list[np.ndarray]) -> float:
    all_values = np.concatenate(values)
    return float(all_values.mean()) if len(all_values) else float("nan")
