"""How far generated pieces lie from the training set's, metric by metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from musegen.metrics.music import BEAT, LABELS, piece_metrics

EXCERPTS = 64
"""Excerpts of either side at most: two thousand distances within a side, which draw a density."""
LEAST = 16
"""Beats of an excerpt at least: a shorter one has no groove."""
DRAWS = 10
"""Draws of training pieces for the ceiling."""
GRID = 256
"""Points at which densities are compared."""


def compare(
    samples: Sequence[np.ndarray], training: Sequence[np.ndarray], beat: float = BEAT
) -> dict[str, dict[str, float]]:
    """Figures of the samples beside the training set's own, by the names of `LABELS`.

    For each: the means `samples` and `training`, and after Yang & Lerch (2020) the `overlap`
    and `kl` of two densities: of the distances between training excerpts, and of those from
    samples' excerpts to training excerpts (see `overlap_and_kl`). `ceiling_overlap` and
    `ceiling_kl` are what training pieces reach in the samples' place: as many of them (half of
    them at most) against the others, mean of ten draws. A metric that one side lacks is NaN.

    Range, entropies and repetitions grow with a piece's length; all pieces are therefore cut
    into excerpts of one length, the shorter of the two sides' median lengths. Empty for no sample
    with a note, or less than two training pieces.
    """
    samples, training = ([p for p in side if len(p)] for side in (samples, training))
    if not samples or len(training) < 2:
        return {}
    medians = [float(np.median([p["end"].max() for p in side])) for side in (samples, training)]
    seconds = max(min(medians), LEAST * beat)
    from_samples, from_training = (_table(side, seconds, beat) for side in (samples, training))
    n = min(len(from_samples), len(from_training) // 2)
    rng = np.random.default_rng(0)
    draws = [rng.choice(len(from_training), n, replace=False) for _ in range(DRAWS)]
    result = {}
    for name in LABELS:
        ours, theirs = _values(from_samples, name), _values(from_training, name)
        overlap, kl = overlap_and_kl(np.concatenate(ours), np.concatenate(theirs))
        ceilings = []
        for draw in draws:
            others = [v for i, v in enumerate(theirs) if i not in draw]
            ceilings.append(
                overlap_and_kl(np.concatenate([theirs[i] for i in draw]), np.concatenate(others))
            )
        ceiling_overlap, ceiling_kl = np.mean(ceilings, axis=0)
        result[name] = {
            "samples": _mean(ours),
            "training": _mean(theirs),
            "overlap": overlap,
            "kl": kl,
            "ceiling_overlap": float(ceiling_overlap),
            "ceiling_kl": float(ceiling_kl),
        }
    return result


def overlap_and_kl(values: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Overlap area ∫ min(p, q) and KL divergence ∫ p log(p/q), in nats, of two densities.

    p is the density of |a − b| over pairs within `reference`, q that of |a − v| between
    `reference` and `values`, both by Gaussian kernels of Scott's bandwidth, on one grid from 0
    to the greatest distance. Overlap 1 and KL 0 are the best there is; NaN where `values` is
    empty or `reference` has less than two.
    """
    if len(values) == 0 or len(reference) < 2:
        return float("nan"), float("nan")
    i, j = np.triu_indices(len(reference), 1)
    within = np.abs(reference[i] - reference[j])
    across = np.abs(reference[:, None] - values).ravel()
    greatest = max(within.max(), across.max())
    if greatest == 0:
        return 1.0, 0.0
    grid = np.linspace(0, greatest, GRID)
    p, q = _density(within, grid), _density(across, grid)
    return float(np.minimum(p, q).sum()), float((p * np.log(p / q)).sum())


def _density(distances: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Shares of a Gaussian kernel density at the points of the grid, nowhere 0, sum 1."""
    # Equal distances have no spread: their kernel is as wide as the grid's step.
    width = max(distances.std(ddof=1) * len(distances) ** -0.2 if len(distances) > 1 else 0.0,
                grid[1])  # fmt: skip
    density = np.exp(-0.5 * ((grid[:, None] - distances) / width) ** 2).mean(1) + 1e-12
    return density / density.sum()


def _table(pieces: Sequence[np.ndarray], seconds: float, beat: float) -> list[list[dict]]:
    """`piece_metrics` of every piece's excerpts; as many of them a piece as `EXCERPTS` allows."""
    most = max(1, EXCERPTS // len(pieces))
    chosen = _spread(pieces, EXCERPTS)
    return [
        [piece_metrics(e, beat) for e in _spread(excerpts(piece, seconds), most)]
        for piece in chosen
    ]


def excerpts(piece: np.ndarray, seconds: float) -> list[np.ndarray]:
    """Successive stretches of a piece with a note in them, each beginning at time 0.

    A note belongs to the stretch it starts in and ends with it at the latest. A last stretch of
    less than half the length is left out, unless it is all there is.
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


def _spread(items: Sequence, most: int) -> list:
    """At most so many of the items, evenly spread over them."""
    if len(items) <= most:
        return list(items)
    return [items[i] for i in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _values(table: list[list[dict]], name: str) -> list[np.ndarray]:
    """One array of a metric's values per piece, without those that are NaN."""
    values = [np.array([metrics[name] for metrics in piece], float) for piece in table]
    return [v[~np.isnan(v)] for v in values]


def _mean(values: list[np.ndarray]) -> float:
    everything = np.concatenate(values)
    return float(everything.mean()) if len(everything) else float("nan")
