"""Samples of a model beside training pieces and held-out pieces: all metrics of music.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from musegen.metrics import holds
from musegen.metrics.copying import RUN, Runs, found_share, longest_runs
from musegen.metrics.music import BEAT, MEASURES, ROLL_MEASURES, Measure, piece_metrics
from musegen.metrics.music_overlap import excerpts_of, overlap
from musegen.runtime.random_streams import Stream, random_stream

MIN_BEATS = 16
"""The minimum length of an excerpt in beats. A shorter one has no groove."""
QUANTILES = (0.5, 0.05, 0.95, 0.99)
"""What is said of the distribution over excerpts."""
DRAWS = 20
"""Draws of training pieces for the ceiling."""
AGES = "hold_ages"
"""The name of the metric whose distribution is that of the lengths of all holds."""
ALL_MEASURES = (
    MEASURES
    | ROLL_MEASURES
    | {
        AGES: Measure(
            "Length of holds (frames or ⅛ s)",
            "from the hazards: of what sounds below middle C; without frames, of the notes",
        )
    }
)
"""Every metric of `compare`."""


def compare(
    samples: Sequence[np.ndarray],
    training: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray] = (),
    beat: float = BEAT,
    frame: float | None = None,
) -> dict[str, Any]:
    """Compare the metrics of samples with those of training pieces, and the same for held-out ones.

    Range, entropies, holds and repetition increase with the length of a piece. Therefore all
    pieces are cut into excerpts of one length, the smaller of the median lengths of samples and
    training pieces (at least `MIN_BEATS` beats), and at most `MAX_EXCERPTS` of each side are
    measured. `beat` and `frame` are those of `piece_metrics`. The result has

    - excerpts: `seconds`, and how many there are of `samples`, `training` and `held_out`.
    - measures: for each metric (`piece_metrics`, and `hold_ages`) the median over excerpts and the
      5 % and 95 % quantiles: `samples`, `samples_5`, `samples_95`, `samples_mean`, and the same
      for `training` and `held_out`. For `DRAWS` times, the training pieces are divided at random
      into as many as there are samples (at most half of all) and the others. `overlap` is the mean
      overlap of the samples with the others. `ceiling` is what real pieces reach: that of the drawn
      training pieces with the others. `ratio` is overlap ÷ ceiling; `held_out_ratio` the same
      with held-out pieces in place of the samples, as many at a time.
    - headline: the mean of `ratio` over the metrics. Samples that are like the training pieces
      have 1 on average. held_out_headline: the mean of `held_out_ratio`.
    - hazard: the probabilities that a hold ends at an age (`hazard`), by age in `unit` seconds,
      or in frames if `unit` is 1.
    - copying: of the runs of 8 successive notes of an excerpt, which share occurs in training at
      any transposition (all given training pieces, whole), and the number of notes of the longest
      such run, median and maximum over excerpts; for samples and held-out pieces.

    NaN where a side has no value, or where the ceiling is 0. Returns an empty dict if no sample
    has a note in its excerpts, or for fewer than two such training pieces.
    """
    samples, training, held_out = (
        [p for p in side if len(p)] for side in (samples, training, held_out)
    )
    if not samples or len(training) < 2:
        return {}
    seconds = excerpt_seconds(samples, training, beat, frame)
    cut = {
        name: excerpts_of(side, seconds)
        for name, side in (("samples", samples), ("training", training), ("held_out", held_out))
    }
    if not cut["samples"] or len(cut["training"]) < 2:
        return {}
    tables = {name: _tables(side, beat, frame) for name, side in cut.items()}
    measures, runs = _compare_all(tables), Runs(training)
    counts = {name: np.sum([t.holds for t in side], axis=0) for name, side in tables.items()}
    return {
        "headline": _mean([m["ratio"] for m in measures.values()]),
        "held_out_headline": _mean([m["held_out_ratio"] for m in measures.values()]),
        "excerpts": {"seconds": seconds} | {k: sum(map(len, side)) for k, side in cut.items()},
        "measures": measures,
        "hazard": {"unit": holds.SHORT_UNIT if frame is None else 1}
        | {k: holds.hazard(c).tolist() for k, c in counts.items() if np.ndim(c)},
        "copying": {
            name: _copying([e for piece in cut[name] for e in piece], runs)
            for name in ("samples", "held_out")
        },
    }


def excerpt_seconds(
    samples: Sequence[np.ndarray],
    training: Sequence[np.ndarray],
    beat: float = BEAT,
    frame: float | None = None,
) -> float:
    """The length of the excerpts: see `compare`. A whole number of frames."""
    medians = [float(np.median([p["end"].max() for p in side])) for side in (samples, training)]
    seconds = max(min(medians), MIN_BEATS * beat)
    return seconds if frame is None else round(seconds / frame) * frame


class _Table(NamedTuple):
    """The metrics of the excerpts of one piece."""

    values: dict[str, np.ndarray]
    """By metric: those of the excerpts, without NaN."""
    holds: np.ndarray
    """`hold_counts`, summed over the excerpts."""


def _tables(pieces: list[list[np.ndarray]], beat: float, frame: float | None) -> list[_Table]:
    result = []
    for excerpts in pieces:
        rows = [piece_metrics(notes, beat, frame) for notes in excerpts]
        columns = {k: np.array([row[k] for row in rows]) for k in rows[0]}
        values = {k: v[~np.isnan(v)] for k, v in columns.items()}
        counts = np.sum([holds.hold_counts(notes, frame) for notes in excerpts], axis=0)
        result.append(_Table(values, counts))
    return result


def _compare_all(tables: dict[str, list[_Table]]) -> dict[str, dict[str, float]]:
    samples, training, held_out = tables["samples"], tables["training"], tables["held_out"]
    rng = random_stream(Stream.MUSIC_OVERLAP, 0)
    n = min(len(samples), len(training) // 2)
    draws = [_split(training, n, rng) for _ in range(DRAWS)]
    few = [_split(held_out, len(samples), rng)[0] for _ in range(DRAWS)]
    measures = {}
    for name in [*training[0].values, AGES]:
        row: dict[str, float] = {}
        for side, pieces in tables.items():
            row |= _quantiles(side, pieces, name)
        row["overlap"] = _mean([_overlap(name, samples, others) for _, others in draws])
        row["ceiling"] = _mean([_overlap(name, drawn, others) for drawn, others in draws])
        row["ratio"] = _ratio(row["overlap"], row["ceiling"])
        of_held_out = [
            _overlap(name, some, others)
            for some, (_, others) in zip(few, draws, strict=True)
            if some
        ]
        row["held_out_ratio"] = _ratio(_mean(of_held_out), row["ceiling"])
        measures[name] = row
    return measures


def _split(pieces: list[_Table], n: int, rng: np.random.Generator) -> tuple[list[_Table], ...]:
    """n of the pieces at random, and the others."""
    order = rng.permutation(len(pieces))
    return [pieces[i] for i in order[:n]], [pieces[i] for i in order[n:]]


def _overlap(name: str, pieces: list[_Table], reference: list[_Table]) -> float:
    if name == AGES:
        p, q = (
            holds.hold_lengths(np.sum([t.holds for t in side], axis=0))
            for side in (pieces, reference)
        )
        return float(np.minimum(p, q).sum())
    values, others = (
        np.concatenate([t.values[name] for t in side]) for side in (pieces, reference)
    )
    return overlap(values, others)


def _quantiles(side: str, pieces: list[_Table], name: str) -> dict[str, float]:
    """`QUANTILES` and mean over excerpts; of `hold_ages` over holds, in units of age."""
    names = (side, *(f"{side}_{q}" for q in (5, 95, 99, "mean")))
    if not pieces:
        return dict.fromkeys(names, float("nan"))
    if name == AGES:
        p = holds.hold_lengths(np.sum([t.holds for t in pieces], axis=0))
        cumulative = np.cumsum(p)
        ages = [float(np.searchsorted(cumulative, q - 1e-9) + 1) for q in QUANTILES]
        return dict(zip(names, [*ages, float(p @ np.arange(1, len(p) + 1))], strict=True))
    values = np.concatenate([t.values[name] for t in pieces])
    if not len(values):
        return dict.fromkeys(names, float("nan"))
    quantiles = [float(q) for q in np.quantile(values, QUANTILES)]
    return dict(zip(names, [*quantiles, float(values.mean())], strict=True))


def _copying(excerpts: list[np.ndarray], training: Runs) -> dict[str, float]:
    found, total = found_share(excerpts, training)
    longest = longest_runs(excerpts, training)
    return {
        f"runs_of_{RUN}": found / total if total else float("nan"),
        "longest": float(np.median(longest)) if len(longest) else float("nan"),
        "longest_max": float(longest.max(initial=0)) if len(longest) else float("nan"),
    }


def _ratio(reached: float, ceiling: float) -> float:
    """NaN where even real pieces do not overlap, as in sets of two or three pieces."""
    return reached / ceiling if ceiling > 0 else float("nan")


def _mean(values: Sequence[float]) -> float:
    """The mean of those that are not NaN."""
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")
