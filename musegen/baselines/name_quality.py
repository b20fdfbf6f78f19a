"""Labelled names: the n-gram baseline per label, and what generated names are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from musegen.baselines.ngram import NGram

MAX_ORDER = 6
DISCOUNTS = (0.5, 0.7, 0.9)
SHARES = np.linspace(0, 1, 11)
PER_LABEL = 50
"""Generated names per label that are judged."""

Rows = Sequence[Sequence[int]]


class LabelledNGram:
    """An n-gram per label, mixed with the n-gram of all labels together:

        P(x | c, label) = λ P_label(x | c) + (1 − λ) P_all(x | c)

    A label of 70 names has too few counts of its own, and one of 9,000 needs no others': the
    share λ of each label and the discount are those that validation likes best, separately for
    every order.
    """

    def __init__(self, choices: int, discount: float) -> None:
        self.choices, self.discount = choices, discount
        self.everyone = NGram(MAX_ORDER, discount)
        self.own: dict[int, NGram] = {}
        self.share: dict[int, np.ndarray] = {}

    def fit(self, rows: Rows, labels: Sequence[int]) -> LabelledNGram:
        """Count the training names; every label leans on the others by half."""
        self.everyone.fit(rows)
        for label in sorted(set(labels)):
            names = [r for r, i in zip(rows, labels, strict=True) if i == label]
            self.own[label] = NGram(MAX_ORDER, self.discount).fit(names)
            self.share[label] = np.full(MAX_ORDER, 0.5)
        return self

    def tune(self, rows: Rows, labels: Sequence[int]) -> np.ndarray:
        """Choose λ per label and order on validation names; returns their nats per order."""
        total = np.zeros(MAX_ORDER)
        for label in sorted(set(labels)):
            names = [r for r, i in zip(rows, labels, strict=True) if i == label]
            own, everyone = self._both(names, label)
            mixed = SHARES[:, None, None] * own + (1 - SHARES[:, None, None]) * everyone
            nats = -np.log(mixed).sum(2)
            self.share[label] = SHARES[nats.argmin(0)]
            total += nats.min(0)
        return total

    def nats(self, rows: Rows, label: int) -> np.ndarray:
        """−log p of each class of names of one label, for each order: (order, N)."""
        own, everyone = self._both(rows, label)
        share = self.share[label][:, None]
        return -np.log(share * own + (1 - share) * everyone)

    def _both(self, rows: Rows, label: int) -> tuple[np.ndarray, np.ndarray]:
        everyone = np.exp(-self.everyone.nats(rows, self.choices))
        own = self.own.get(label)
        return (everyone if own is None else np.exp(-own.nats(rows, self.choices))), everyone


def per_name(nats_ON: np.ndarray, rows: Rows) -> np.ndarray:
    """(order, N) nats of the classes of names one after the other → (order, names)."""
    starts = np.cumsum([0, *map(len, rows[:-1])])
    return np.add.reduceat(nats_ON, starts, axis=1)


def best_labelled(
    train: tuple[Rows, Sequence[int]], val: tuple[Rows, Sequence[int]], choices: int
) -> tuple[LabelledNGram, int]:
    """The mixed n-gram and the order with the fewest nats on validation."""
    tried = []
    for discount in DISCOUNTS:
        model = LabelledNGram(choices, discount).fit(*train)
        nats = model.tune(*val)
        tried.append((float(nats.min()), model, int(nats.argmin()) + 1))
    _, model, order = min(tried, key=lambda t: t[0])
    return model, order


class Read(NamedTuple):
    """A test name: its label, its characters, the nats it cost the network and the best n-gram."""

    label: int
    length: int
    nats: float
    ngram_nats: float


def read(model: Any, data: Any) -> tuple[list[Read], dict[str, float]]:
    """Every test name, and the n-grams' bits per character with the order that validation picks."""
    coded = {s: (data.coded(s), data.labels[s]) for s in ("train", "val", "test")}
    ngram, order = best_labelled(coded["train"], coded["val"], model.codec.size)
    rows, labels = coded["test"]
    theirs_ON = np.empty((MAX_ORDER, len(rows)))
    for label in set(labels):
        which = [i for i, of in enumerate(labels) if of == label]
        names = [rows[i] for i in which]
        theirs_ON[:, which] = per_name(ngram.nats(names, label), names)
    bits = theirs_ON.sum(1) / sum(map(len, rows)) / math.log(2)
    metrics = {f"ngram{k}_bpc": float(bits[k - 1]) for k in range(1, MAX_ORDER + 1)}
    ours = (float(nats_T.sum()) for nats_T, _ in model.read(rows, labels))
    return [
        Read(label, len(row), nats, float(ngram_nats))
        for row, label, nats, ngram_nats in zip(
            rows, labels, ours, theirs_ON[order - 1], strict=True
        )
    ], metrics | {"ngram_order": order}


def compared(names: Sequence[Read]) -> dict[str, float]:
    """Bits per character of network and n-gram, and how far the network is ahead.

    `ahead_error` is the standard error of that difference when the names are drawn anew, by the
    variance of a ratio of sums; 70 names decide little.
    """
    length_N = np.array([n.length for n in names], float)
    bits_N = np.array([n.nats for n in names]) / math.log(2)
    ngram_N = np.array([n.ngram_nats for n in names]) / math.log(2)
    total, ahead_N = length_N.sum(), ngram_N - bits_N
    ahead = ahead_N.sum() / total
    error = np.sqrt(((ahead_N - ahead * length_N) ** 2).sum()) / total
    return {
        "bpc": float(bits_N.sum() / total),
        "ngram_bpc": float(ngram_N.sum() / total),
        "ahead": float(ahead),
        "ahead_error": float(error),
    }


def assess(model: Any, data: Any, temperature: float) -> dict[str, float]:
    """What the test batches alone do not tell.

    - `ngram…_bits`: bits per character of the mixed n-gram, per order and of the best one.
    - `bits/<label>`, `ngram_bpc/<label>`, …: what `compared` says of each label; `ahead` and
      `ahead_error` of all of them.
    - `novel`: share of generated names that are no training name of their label; `distinct`:
      how many of them differ from one another.
    - `recognised`: how often an n-gram classifier that learnt the held-out names, which the
      network never saw, gives a generated name its label, all labels alike beforehand;
      `recognised_real` is the same for as many real training names: what can be expected.
    """
    names, metrics = read(model, data)
    metrics |= compared(names)
    del metrics["bpc"]  # the pass over the test batches gives it
    for label in sorted({n.label for n in names}):
        of_label = compared([n for n in names if n.label == label])
        metrics |= {f"{k}/{model.codec.labels[label]}": v for k, v in of_label.items()}
    return metrics | judged(model, data, temperature)


def judged(model: Any, data: Any, temperature: float) -> dict[str, float]:
    """The metrics of names generated at a temperature."""
    coded = {s: (data.coded(s), data.labels[s]) for s in ("train", "val", "test")}
    held_out = [*coded["val"][0], *coded["test"][0]]
    held_out_labels = [*coded["val"][1], *coded["test"][1]]
    trained: dict[int, dict[tuple[int, ...], None]] = {}
    for row, label in zip(*coded["train"], strict=True):
        if label in held_out_labels:
            trained.setdefault(label, {})[tuple(row)] = None
    made, real = [], []
    for label, known in trained.items():
        names = model.generate(PER_LABEL, model.codec.labels[label], temperature=temperature)
        made += [(label, tuple(model.codec.encode(text))) for _, text in names]
        real += [(label, name) for name in list(known)[:: max(1, len(known) // PER_LABEL)]]
    classifier = LabelledNGram(model.codec.size, DISCOUNTS[1]).fit(held_out, held_out_labels)
    return {
        "novel": sum(name not in trained[label] for label, name in made) / len(made),
        "distinct": len(set(made)) / len(made),
        "recognised": _recognised(classifier, made),
        "recognised_real": _recognised(classifier, real),
    }


def _recognised(classifier: LabelledNGram, names: list[tuple[int, tuple[int, ...]]]) -> float:
    """Share of names whose own label makes them likeliest, by trigrams."""
    rows = [name for _, name in names]
    known = sorted(classifier.own)
    nats_LN = np.stack([per_name(classifier.nats(rows, i), rows)[2] for i in known])
    likeliest = [known[i] for i in nats_LN.argmin(0)]
    return sum(label == i for (label, _), i in zip(names, likeliest, strict=True)) / len(names)
