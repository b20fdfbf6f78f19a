"""Interpolated n-grams over integer sequences, a baseline for every network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Counts(NamedTuple):
    """The counts of the symbols after each context of one length.

    A context is encoded as one number, (context without its oldest symbol, oldest symbol). Its
    index is its position in the sorted `context_C`.
    """

    context_C: np.ndarray
    pair_P: np.ndarray
    """(index of the context, symbol) as one number, sorted."""
    count_P: np.ndarray
    total_C: np.ndarray
    kinds_C: np.ndarray
    """The number of different symbols after the context."""


class NGram:
    """An n-gram with absolute discounting, interpolated down to the uniform distribution.

        P_k(x | c) = (max(N(c, x) − d, 0) + d · T(c) · P_{k−1}(x | c')) / N(c)

    where c is the last k−1 symbols, c' is c without its oldest symbol, N is a count in the training
    sequences, and T(c) is the number of different symbols after c (Ney, Essen & Kneser 1994). An
    unseen context falls back to the shorter one. P_0 is 1/choices.

    Every sequence is padded on the left with the symbol `BEFORE`. In periodic sequences (the
    fields of messages) every context, also the shortest, includes the position modulo `period`.
    """

    BEFORE = -1

    def __init__(self, order: int, discount: float, period: int = 1) -> None:
        if order < 1 or not 0 < discount < 1:
            raise ValueError(f"order={order} should be at least 1, discount={discount} in (0, 1)")
        self.order, self.discount, self.period = order, discount, period
        self.base = 0
        """Larger than any shifted symbol (`BEFORE` is 0) and position; base − 1 means "unseen"."""
        self.tables: list[Counts] = []

    def fit(self, sequences: Iterable[Sequence[int]]) -> NGram:
        """Count the training sequences."""
        rows = [np.asarray(s, np.int64) for s in sequences]
        largest = max(int(row.max(initial=0)) for row in rows)
        self.base = max(largest + 3, self.period)
        symbol_N, *older = self._columns(rows)
        context_N = np.zeros(len(symbol_N), np.int64)
        self.tables = []
        for older_N in older:
            contexts, context_N = np.unique(context_N * self.base + older_N, return_inverse=True)
            pairs, counts = np.unique(context_N * self.base + symbol_N, return_counts=True)
            of_pair = pairs // self.base
            totals, kinds = np.bincount(of_pair, counts), np.bincount(of_pair)
            self.tables.append(Counts(contexts, pairs, counts, totals, kinds))
        return self

    def _columns(self, sequences: Sequence[np.ndarray]) -> list[np.ndarray]:
        """For every position of all sequences: its symbol, its position modulo `period`, and the
        order − 1 symbols before it, the latest first. Symbols are shifted so that `BEFORE` is 0."""
        back = self.order - 1
        padding = np.full(back, self.BEFORE)
        padded = np.concatenate([part for s in sequences for part in (padding, s)]) - self.BEFORE
        padded = np.minimum(padded, self.base - 1)
        lengths_S = np.array([len(s) for s in sequences])
        ends_S = np.cumsum(lengths_S + back)
        within_N = np.concatenate([np.arange(n) for n in lengths_S])
        index_N = within_N + np.repeat(ends_S - lengths_S, lengths_S)
        return [
            padded[index_N],
            within_N % self.period,
            *(padded[index_N - k] for k in range(1, self.order)),
        ]

    def discounted(self, discount: float) -> NGram:
        """The same counts with another discount."""
        other = NGram(self.order, discount, self.period)
        other.base, other.tables = self.base, self.tables
        return other

    def nll(
        self, sequences: Sequence[Sequence[int]], choices: int | Sequence[np.ndarray]
    ) -> np.ndarray:
        """−log p of every symbol given the preceding ones of its sequence: (order, N) nats, with
        the sequences concatenated.

        `choices` is the number of possible symbols at each position, which defines P_0.
        """
        symbol_N, *older = self._columns([np.asarray(s, np.int64) for s in sequences])
        num_choices = choices if isinstance(choices, int) else np.concatenate(choices)
        p_N = np.full(len(symbol_N), 1.0) / num_choices
        context_N, known_N = np.zeros(len(symbol_N), np.int64), np.ones(len(symbol_N), bool)
        probability = np.empty((self.order, len(symbol_N)))
        d = self.discount
        for k, (table, older_N) in enumerate(zip(self.tables, older, strict=True)):
            context_N, found_N = _find(table.context_C, context_N * self.base + older_N)
            known_N &= found_N
            pair_N, seen_N = _find(table.pair_P, context_N * self.base + symbol_N)
            discounted_N = np.where(seen_N, table.count_P[pair_N] - d, 0.0)
            backoff_N = d * table.kinds_C[context_N] * p_N
            p_N = np.where(known_N, (discounted_N + backoff_N) / table.total_C[context_N], p_N)
            probability[k] = p_N
        return -np.log(probability)

    def distribution(self, context: Sequence[int], choices: int) -> np.ndarray:
        """P(x | context) of the highest order, for each x of 0 … choices − 1.

        `context` is the whole preceding sequence. With `period` 1 its last order − 1 symbols are
        enough.
        """
        padded = [self.BEFORE] * (self.order - 1) + list(context)
        latest_first = [s - self.BEFORE for s in padded[len(context) :][::-1]]
        p_V, number = np.full(choices, 1.0 / choices), 0
        columns = [len(context) % self.period, *latest_first]
        for table, older in zip(self.tables, columns, strict=False):  # no tables before `fit`
            index_1, found_1 = _find(table.context_C, np.array([number * self.base + older]))
            if not found_1[0]:
                break
            number = int(index_1[0])
            edges = np.searchsorted(table.pair_P, [number * self.base, (number + 1) * self.base])
            pairs = slice(*edges)
            p_V *= self.discount * table.kinds_C[number]
            symbols = table.pair_P[pairs] % self.base + self.BEFORE
            p_V[symbols] += table.count_P[pairs] - self.discount
            p_V /= table.total_C[number]
        return p_V


def _find(sorted_K: np.ndarray, value_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The index of each value among the sorted ones, and whether it is one of them."""
    index_N = np.searchsorted(sorted_K, value_N).clip(max=len(sorted_K) - 1)
    return index_N, sorted_K[index_N] == value_N


def best_ngram(
    train: Sequence[Sequence[int]],
    val: Sequence[Sequence[int]],
    choices: int | Sequence[np.ndarray],
    max_order: int,
    discounts: Sequence[float] = (0.5, 0.7, 0.9),
    period: int = 1,
) -> tuple[NGram, int]:
    """The n-gram and the order with the smallest negative log-likelihood of the validation set.

    `choices` describes `val`, as in `NGram.nll`.
    """
    counted = NGram(max_order, discounts[0], period).fit(train)
    tried = []
    for discount in discounts:
        model = counted.discounted(discount)
        nll = model.nll(val, choices).sum(1)
        tried.append((float(nll.min()), model, int(nll.argmin()) + 1))
    _, model, order = min(tried, key=lambda t: t[0])
    return model, order
