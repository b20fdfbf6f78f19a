"""Labelled names: the n-gram baseline per label, and the quality of generated names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from musegen.baselines.ngram import NGram

MAX_ORDER = 6
DISCOUNTS = (0.5, 0.7, 0.9)
WEIGHTS = np.linspace(0, 1, 11)
"""The candidates for the mixture weight λ."""
PER_LABEL = 50
"""Generated names per label."""

Rows = Sequence[Sequence[int]]


class LabelledNGram:
    """A mixture of one n-gram per label with the n-gram of all labels:

        P(x | c, label) = λ P_label(x | c) + (1 − λ) P_all(x | c)

    A label of 70 names has too few counts, while one of 9,000 names needs no others. The weight λ
    of each label and order has the best likelihood on validation.
    """

    def __init__(self, choices: int, discount: float) -> None:
        self.choices, self.discount = choices, discount
        self.of_all = NGram(MAX_ORDER, discount)
        self.by_label: dict[int, NGram] = {}
        self.weight: dict[int, np.ndarray] = {}

    def fit(self, rows: Rows, labels: Sequence[int]) -> LabelledNGram:
        """Count the training names. λ starts at ½."""
        self.of_all.fit(rows)
        for label in sorted(set(labels)):
            names = [r for r, i in zip(rows, labels, strict=True) if i == label]
            self.by_label[label] = NGram(MAX_ORDER, self.discount).fit(names)
            self.weight[label] = np.full(MAX_ORDER, 0.5)
        return self

    def tune(self, rows: Rows, labels: Sequence[int]) -> np.ndarray:
        """Choose λ per label and order on validation names. Returns their nats per order."""
        total = np.zeros(MAX_ORDER)
        for label in sorted(set(labels)):
            names = [r for r, i in zip(rows, labels, strict=True) if i == label]
            own, of_all = self._probabilities(names, label)
            mixed = WEIGHTS[:, None, None] * own + (1 - WEIGHTS[:, None, None]) * of_all
            nll = -np.log(mixed).sum(2)
            self.weight[label] = WEIGHTS[nll.argmin(0)]
            total += nll.min(0)
        return total

    def nll(self, rows: Rows, label: int) -> np.ndarray:
        """−log p of each class of names of one label, for each order: (order, N)."""
        own, of_all = self._probabilities(rows, label)
        weight = self.weight[label][:, None]
        return -np.log(weight * own + (1 - weight) * of_all)

    def _probabilities(self, rows: Rows, label: int) -> tuple[np.ndarray, np.ndarray]:
        """The probabilities (order, N) of the label's n-gram and of that of all labels."""
        of_all = np.exp(-self.of_all.nll(rows, self.choices))
        own = self.by_label.get(label)
        return (of_all if own is None else np.exp(-own.nll(rows, self.choices))), of_all


def per_name(nll_ON: np.ndarray, rows: Rows) -> np.ndarray:
    """Sums of nats: (order, classes of all names, concatenated) → (order, names)."""
    starts = np.cumsum([0, *map(len, rows[:-1])])
    return np.add.reduceat(nll_ON, starts, axis=1)


def best_labelled(
    train: tuple[Rows, Sequence[int]], val: tuple[Rows, Sequence[int]], choices: int
) -> tuple[LabelledNGram, int]:
    """The mixture and the order with the smallest negative log-likelihood on validation."""
    tried = []
    for discount in DISCOUNTS:
        model = LabelledNGram(choices, discount).fit(*train)
        nll = model.tune(*val)
        tried.append((float(nll.min()), model, int(nll.argmin()) + 1))
    _, model, order = min(tried, key=lambda t: t[0])
    return model, order


class ScoredName(NamedTuple):
    """A test name: its label, its length, and its −log p of the model and of the best n-gram."""

    label: int
    length: int
    nll: float
    ngram_nll: float


def score_names(model: Any, data: Any) -> tuple[list[ScoredName], dict[str, float]]:
    """Every test name, and the n-grams' bits per character with the best order on validation."""
    coded = {s: (data.coded(s), data.labels[s]) for s in ("train", "val", "test")}
    ngram, order = best_labelled(coded["train"], coded["val"], model.codec.size)
    rows, labels = coded["test"]
    ngram_ON = np.empty((MAX_ORDER, len(rows)))
    for label in set(labels):
        indices = [i for i, name_label in enumerate(labels) if name_label == label]
        names = [rows[i] for i in indices]
        ngram_ON[:, indices] = per_name(ngram.nll(names, label), names)
    bits = ngram_ON.sum(1) / sum(map(len, rows)) / math.log(2)
    metrics = {f"ngram{k}_bpc": float(bits[k - 1]) for k in range(1, MAX_ORDER + 1)}
    model_nll = (float(nll_T.sum()) for nll_T, _ in model.read(rows, labels))
    return [
        ScoredName(label, len(row), nll, float(ngram_nll))
        for row, label, nll, ngram_nll in zip(
            rows, labels, model_nll, ngram_ON[order - 1], strict=True
        )
    ], metrics | {"ngram_order": order}


def compare_to_ngram(names: Sequence[ScoredName]) -> dict[str, float]:
    """Bits per character of model and n-gram, and the difference as the model's `gain`.

    `gain_error` is the standard error of the gain over random sets of names, by the variance of a
    ratio of sums. It is large for a label of 70 names.
    """
    length_N = np.array([n.length for n in names], float)
    bits_N = np.array([n.nll for n in names]) / math.log(2)
    ngram_N = np.array([n.ngram_nll for n in names]) / math.log(2)
    total, gain_N = length_N.sum(), ngram_N - bits_N
    gain = gain_N.sum() / total
    error = np.sqrt(((gain_N - gain * length_N) ** 2).sum()) / total
    return {
        "bpc": float(bits_N.sum() / total),
        "ngram_bpc": float(ngram_N.sum() / total),
        "gain": float(gain),
        "gain_error": float(error),
    }


def assess(model: Any, data: Any, temperature: float) -> dict[str, float]:
    """Metrics of names that need more than one pass over the test batches.

    - `ngram<order>_bpc`, `ngram_bpc`: bits per character of the mixed n-gram of each order, and of
      the best order. `gain`, `gain_error`: see `compare_to_ngram`.
    - `bpc/<label>`, `ngram_bpc/<label>`, `gain/<label>`, …: the same for each label.
    - `novel`: the fraction of generated names that are not a training name of their label;
      `distinct`: the fraction of different names among them.
    - `recognised`: how often an n-gram classifier assigns a generated name to its label, with a
      uniform prior. It is fitted to the held-out names, which the network did not train on.
      `recognised_real` is the same for as many training names, as a reference.
    """
    names, metrics = score_names(model, data)
    metrics |= compare_to_ngram(names)
    del metrics["bpc"]  # the pass over the test batches computes it
    for label in sorted({n.label for n in names}):
        of_label = compare_to_ngram([n for n in names if n.label == label])
        metrics |= {f"{k}/{model.codec.labels[label]}": v for k, v in of_label.items()}
    return metrics | generation_metrics(model, data, temperature)


def generation_metrics(model: Any, data: Any, temperature: float) -> dict[str, float]:
    """`novel`, `distinct` and `recognised` of names generated at a temperature."""
    coded = {s: (data.coded(s), data.labels[s]) for s in ("train", "val", "test")}
    held_out = [*coded["val"][0], *coded["test"][0]]
    held_out_labels = [*coded["val"][1], *coded["test"][1]]
    trained: dict[int, dict[tuple[int, ...], None]] = {}
    for row, label in zip(*coded["train"], strict=True):
        if label in held_out_labels:
            trained.setdefault(label, {})[tuple(row)] = None
    generated, real = [], []
    for label, known in trained.items():
        names = model.generate(PER_LABEL, model.codec.labels[label], temperature=temperature)
        generated += [(label, tuple(model.codec.encode(text))) for _, text in names]
        real += [(label, name) for name in list(known)[:: max(1, len(known) // PER_LABEL)]]
    classifier = LabelledNGram(model.codec.size, DISCOUNTS[1]).fit(held_out, held_out_labels)
    return {
        "novel": sum(name not in trained[label] for label, name in generated) / len(generated),
        "distinct": len(set(generated)) / len(generated),
        "recognised": _recognised(classifier, generated),
        "recognised_real": _recognised(classifier, real),
    }


def _recognised(classifier: LabelledNGram, names: list[tuple[int, tuple[int, ...]]]) -> float:
    """The fraction of names that have the highest trigram probability under their own label."""
    rows = [name for _, name in names]
    known = sorted(classifier.by_label)
    nll_LN = np.stack([per_name(classifier.nll(rows, i), rows)[2] for i in known])
    likeliest = [known[i] for i in nll_LN.argmin(0)]
    return sum(label == i for (label, _), i in zip(names, likeliest, strict=True)) / len(names)
