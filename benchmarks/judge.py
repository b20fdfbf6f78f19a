"""A classifier two-sample test: can a small model tell a model's music from real music?

    python benchmarks/judge.py run=RUN out=DIR                  # 64 pieces of the run
    python benchmarks/judge.py run=RUN out=DIR n=64 length=256 seeds=3
    python benchmarks/judge.py folder=DIR data=nottingham

The arguments are those of benchmarks/music_measures.py; pieces that one of the two has written to
out/seed_S are read by the other. Prints for each seed the AUC of samples against held-out excerpts
(the validation split) of equal length, and that of training against held-out excerpts: real against
real. 0.5 is indistinguishable, 1 is told apart without an error. Many real pieces end before an
excerpt does, and short excerpts have fewer figures. So each excerpt of one side is compared with
one of the other, and both are cut to the length of the shorter.

The judge (Lopez-Paz & Oquab 2017, arXiv 1610.06545) is a logistic regression with an L2 penalty on
normalised counts of an excerpt: figures of 2 and 3 intervals between successive notes in the order
of (onset, pitch), lengths of notes, times between onsets, pitches, and what sounds at each onset:
how many notes, the distances of all pairs, the pitch classes relative to the lowest note.
The AUC is that of 5-fold cross-validation (fewer if there are fewer pieces), where all excerpts of
a piece are in one fold; the mean of `REPEATS` random choices of equally many excerpts of both sides
and of folds, with the standard deviation over the choices.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from music_samples import music_of
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from musegen.cli import console
from musegen.errors import UserError
from musegen.metrics.music import in_chords
from musegen.metrics.music_comparison import excerpt_seconds
from musegen.metrics.music_overlap import excerpts, excerpts_of
from musegen.runtime.atomic import write_json

FOLDS, REPEATS = 5, 5
FIGURES = (2, 3)
"""Intervals of a figure."""
STEPS_PER_OCTAVE = 3
"""Lengths and times are in logarithmic bins, so many to a factor of two."""


class Side(NamedTuple):
    """Excerpts, and the piece that each is from."""

    excerpts: list[np.ndarray]
    pieces: list[int]


def side(pieces: list[np.ndarray], seconds: float) -> Side:
    cut = excerpts_of([p for p in pieces if len(p)], seconds)
    rows = [(e, i) for i, piece in enumerate(cut) for e in piece]
    return Side([row[0] for row in rows], [row[1] for row in rows])


def equally_long(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both excerpts, cut to the length of the shorter."""
    seconds = min(float(notes["end"].max()) for notes in (a, b))
    return excerpts(a, seconds, 1)[0], excerpts(b, seconds, 1)[0]


def features(notes: np.ndarray) -> dict[str, float]:
    """Square roots of relative frequencies, each kind of count with a sum of its own."""
    counts = {
        **{f"figure{n}": Counter(figures(notes, n)) for n in FIGURES},
        "length": Counter(log_bins(notes["end"] - notes["start"])),
        "onset": Counter(log_bins(np.diff(np.unique(np.round(notes["start"], 3))))),
        "pitch": Counter(notes["pitch"].tolist()),
        **simultaneities(notes),
    }
    return {
        f"{kind} {item}": (count / counter.total()) ** 0.5
        for kind, counter in counts.items()
        for item, count in counter.items()
    }


def figures(notes: np.ndarray, size: int) -> list[tuple[int, ...]]:
    intervals = np.diff(in_chords(notes)["pitch"].astype(int)).tolist()
    return list(zip(*(intervals[k:] for k in range(size)), strict=False))


def log_bins(seconds: np.ndarray) -> list[int]:
    return np.round(STEPS_PER_OCTAVE * np.log2(np.maximum(seconds, 1e-3))).astype(int).tolist()


def simultaneities(notes: np.ndarray) -> dict[str, Counter]:
    """The notes that sound at each onset: how many, the distances of all pairs, and the pitch
    classes relative to the lowest note."""
    sizes, pairs, classes = Counter(), Counter(), Counter()
    for onset in np.unique(notes["start"]):
        sounding = (notes["start"] <= onset) & (notes["end"] > onset + 1e-6)
        pitches = np.sort(notes["pitch"][sounding].astype(int))
        sizes[len(pitches)] += 1
        low, high = np.triu_indices(len(pitches), 1)
        pairs.update((pitches[high] - pitches[low]).tolist())
        classes.update(((pitches[1:] - pitches[:1]) % 12).tolist())
    return {"size": sizes, "pair": pairs, "class": classes}


def spread(pieces: list[int], n: int, rng: np.random.Generator) -> list[int]:
    """n excerpts at random: one of every piece before a second one of any."""
    times: Counter[int] = Counter()
    ranked = []
    for i in rng.permutation(len(pieces)).tolist():
        ranked.append((times[pieces[i]], len(ranked), i))
        times[pieces[i]] += 1
    return [i for _, _, i in sorted(ranked)[:n]]


def auc(a: Side, b: Side) -> tuple[float, float]:
    """The mean AUC, and its standard deviation over the choices of excerpts and folds."""
    results = []
    for seed in range(REPEATS):
        rng = np.random.default_rng(seed)
        n = min(len(a.pieces), len(b.pieces))
        chosen = [spread(s.pieces, n, rng) for s in (a, b)]
        pairs = [equally_long(a.excerpts[i], b.excerpts[j]) for i, j in zip(*chosen, strict=True)]
        rows = [features(notes) for side in zip(*pairs, strict=True) for notes in side]
        label = np.repeat([0, 1], n)
        groups = [(k, s.pieces[i]) for k, (s, few) in enumerate(zip((a, b), chosen, strict=True))
                  for i in few]  # fmt: skip
        number = {g: i for i, g in enumerate(dict.fromkeys(groups))}
        group = np.array([number[g] for g in groups])
        fewest = min(len(np.unique(group[label == k])) for k in (0, 1))
        if fewest < 2:
            raise UserError("the judge needs excerpts of two pieces on each side")
        folds = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
        score = np.zeros(len(rows))
        for train, test in folds.split(rows, label, group):
            judge = make_pipeline(
                DictVectorizer(), MaxAbsScaler(), LogisticRegression(C=0.1, max_iter=1000)
            )
            judge.fit([rows[i] for i in train], label[train])
            score[test] = judge.decision_function([rows[i] for i in test])
        results.append(roc_auc_score(label, score))
    return float(np.mean(results)), float(np.std(results))


def judge(
    pieces: list[np.ndarray], training: list[np.ndarray], held_out: list[np.ndarray], data: Any
) -> dict[str, Any]:
    pieces = [p for p in pieces if len(p)]
    seconds = excerpt_seconds(pieces, training, data.beat, data.frame)
    samples, real, other = (side(p, seconds) for p in (pieces, training, held_out))
    fake_auc, fake_error = auc(samples, other)
    real_auc, real_error = auc(real, other)
    return {
        "samples_auc": fake_auc, "samples_deviation": fake_error,
        "real_auc": real_auc, "real_deviation": real_error,
        "seconds": seconds, "samples": len(samples.pieces), "held_out": len(other.pieces),
        "training": len(real.pieces),
    }  # fmt: skip


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        arguments = console.key_values(sys.argv[1:])
        out = arguments.get("out")
        music = music_of(arguments)
        training, held_out = music.data.notes("train"), music.data.notes("val")
        results = {}
        print("| samples | excerpts (s) | AUC, samples : held-out | AUC, training : held-out |")
        print("|---|---|---|---|")
        for name, pieces in music.samples.items():
            r = results[name] = judge(pieces, training, held_out, music.data)
            print(f"| {name} | {r['samples']} : {r['held_out']} ({r['seconds']:.1f}) "
                  f"| {r['samples_auc']:.3f} ± {r['samples_deviation']:.3f} "
                  f"| {r['real_auc']:.3f} ± {r['real_deviation']:.3f} |", flush=True)  # fmt: skip
        if out is not None:
            Path(out).mkdir(parents=True, exist_ok=True)
            write_json(Path(out) / "judge.json", results)


if __name__ == "__main__":
    main()
