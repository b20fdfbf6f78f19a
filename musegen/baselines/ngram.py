"""Interpolated n-grams over integer sequences: the baseline that every network must beat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np


class Counts(NamedTuple):
    """What followed each context of one length.

    Contexts are numbered by their place among the sorted `context_C`, (context without its oldest
    symbol, oldest symbol) as one number each; a symbol after a context is such a number too.
    """

    context_C: np.ndarray
    pair_P: np.ndarray
    """(context, symbol) as one number, sorted."""
    count_P: np.ndarray
    total_C: np.ndarray
    kinds_C: np.ndarray
    """Different symbols that followed."""


class NGram:
    """An n-gram with absolute discounting, interpolated down to the uniform distribution.

        P_k(x | c) = (max(N(c, x) − d, 0) + d · T(c) · P_{k−1}(x | c')) / N(c)

    where c is the last k−1 symbols, c' all but the oldest of them, N a count in the training
    sequences, and T(c) how many different symbols followed c (Ney, Essen & Kneser 1994). A
    context never seen falls back to the shorter one; below order 1 stands 1/choices.

    Every sequence is read as if an endless row of a symbol of its own stood before it. In
    sequences whose positions take turns (the fields of messages) c' never forgets whose turn of
    the `period` it is: the last fallback is the frequency within that turn.
    """

    BEFORE = -1

    def __init__(self, order: int, discount: float, period: int = 1) -> None:
        if order < 1 or not 0 < discount < 1:
            raise ValueError(f"order={order} must be at least 1, discount={discount} in (0, 1)")
        self.order, self.discount, self.period = order, discount, period
        self.base = 0
        """More than any symbol, counted from 0 for `BEFORE`, or turn; one less was never seen."""
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
        """Of every position of all sequences: its symbol, whose turn it is, and the order − 1
        symbols before it, the latest first; symbols counted from 0 for `BEFORE`."""
        back = self.order - 1
        before = np.full(back, self.BEFORE)
        padded = np.concatenate([part for s in sequences for part in (before, s)]) - self.BEFORE
        padded = np.minimum(padded, self.base - 1)
        lengths_S = np.array([len(s) for s in sequences])
        ends_S = np.cumsum(lengths_S + back)
        within_N = np.concatenate([np.arange(n) for n in lengths_S])
        place_N = within_N + np.repeat(ends_S - lengths_S, lengths_S)
        return [
            padded[place_N],
            within_N % self.period,
            *(padded[place_N - k] for k in range(1, self.order)),
        ]

    def discounted(self, discount: float) -> NGram:
        """The same counts with another discount."""
        other = NGram(self.order, discount, self.period)
        other.base, other.tables = self.base, self.tables
        return other

    def nats(
        self, sequences: Sequence[Sequence[int]], choices: int | Sequence[np.ndarray]
    ) -> np.ndarray:
        """−log p of every symbol given those before it in its sequence, for each order: (order,
        N) nats, the sequences one after the other.

        `choices` is the number of symbols that could stand at each place (the uniform floor).
        """
        symbol_N, *older = self._columns([np.asarray(s, np.int64) for s in sequences])
        floor = choices if isinstance(choices, int) else np.concatenate(choices)
        p_N = np.full(len(symbol_N), 1.0) / floor
        context_N, known_N = np.zeros(len(symbol_N), np.int64), np.ones(len(symbol_N), bool)
        probability = np.empty((self.order, len(symbol_N)))
        d = self.discount
        for k, (table, older_N) in enumerate(zip(self.tables, older, strict=True)):
            context_N, found_N = _found(table.context_C, context_N * self.base + older_N)
            known_N &= found_N
            pair_N, seen_N = _found(table.pair_P, context_N * self.base + symbol_N)
            more_N = np.where(seen_N, table.count_P[pair_N] - d, 0.0)
            backed_N = d * table.kinds_C[context_N] * p_N
            p_N = np.where(known_N, (more_N + backed_N) / table.total_C[context_N], p_N)
            probability[k] = p_N
        return -np.log(probability)

    def distribution(self, context: Sequence[int], choices: int) -> np.ndarray:
        """P(x | context) of the highest order, for each x of 0 … choices − 1.

        `context` is all that stands before; where nothing takes turns, its last order − 1 symbols
        are enough.
        """
        padded = [self.BEFORE] * (self.order - 1) + list(context)
        latest_first = [s - self.BEFORE for s in padded[len(context) :][::-1]]
        p_V, number = np.full(choices, 1.0 / choices), 0
        given = [len(context) % self.period, *latest_first]
        for table, older in zip(self.tables, given, strict=False):  # no tables before `fit`
            place_1, found_1 = _found(table.context_C, np.array([number * self.base + older]))
            if not found_1[0]:
                break
            number = int(place_1[0])
            edges = np.searchsorted(table.pair_P, [number * self.base, (number + 1) * self.base])
            followed = slice(*edges)
            p_V *= self.discount * table.kinds_C[number]
            symbols = table.pair_P[followed] % self.base + self.BEFORE
            p_V[symbols] += table.count_P[followed] - self.discount
            p_V /= table.total_C[number]
        return p_V


def _found(sorted_K: np.ndarray, wanted_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each wanted number stands among the sorted ones, and whether it does."""
    place_N = np.searchsorted(sorted_K, wanted_N).clip(max=len(sorted_K) - 1)
    return place_N, sorted_K[place_N] == wanted_N


def best_ngram(
    train: Sequence[Sequence[int]],
    val: Sequence[Sequence[int]],
    choices: int | Sequence[np.ndarray],
    max_order: int,
    discounts: Sequence[float] = (0.5, 0.7, 0.9),
    period: int = 1,
) -> tuple[NGram, int]:
    """The n-gram and the order that give the validation sequences the fewest nats.

    `choices` belongs to `val`, as in `NGram.nats`.
    """
    counted = NGram(max_order, discounts[0], period).fit(train)
    tried = []
    for discount in discounts:
        model = counted.discounted(discount)
        nats = model.nats(val, choices).sum(1)
        tried.append((float(nats.min()), model, int(nats.argmin()) + 1))
    _, model, order = min(tried, key=lambda t: t[0])
    return model, order
