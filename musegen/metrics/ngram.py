"""Interpolated n-grams over integer sequences: the baseline that every network must beat."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np


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
        self.counts: list[defaultdict[tuple, dict[int, int]]] = [
            defaultdict(dict) for _ in range(order)
        ]
        self.totals: list[dict[tuple, int]] = []

    def fit(self, sequences: Iterable[Sequence[int]]) -> NGram:
        """Count the training sequences."""
        for sequence in sequences:
            padded = [self.BEFORE] * (self.order - 1) + [int(x) for x in sequence]
            for t in range(len(sequence)):
                end = t + self.order - 1
                symbol = padded[end]
                for k in range(self.order):
                    followers = self.counts[k][t % self.period, *padded[end - k : end]]
                    followers[symbol] = followers.get(symbol, 0) + 1
        self.totals = [{c: sum(f.values()) for c, f in table.items()} for table in self.counts]
        return self

    def discounted(self, discount: float) -> NGram:
        """The same counts with another discount."""
        other = NGram(self.order, discount, self.period)
        other.counts, other.totals = self.counts, self.totals
        return other

    def nats(self, sequence: Sequence[int], choices: Sequence[int]) -> np.ndarray:
        """−log p of every symbol given those before it, for each order: (order, T) nats.

        `choices[t]` is the number of symbols that could stand at t (the uniform floor).
        """
        padded = [self.BEFORE] * (self.order - 1) + [int(x) for x in sequence]
        probability = np.empty((self.order, len(sequence)))
        d = self.discount
        for t, n_choices in enumerate(choices):
            end = t + self.order - 1
            symbol, p = padded[end], 1.0 / n_choices
            for k in range(self.order):
                context = (t % self.period, *padded[end - k : end])
                followers = self.counts[k].get(context)
                if followers:
                    seen = max(followers.get(symbol, 0) - d, 0.0)
                    p = (seen + d * len(followers) * p) / self.totals[k][context]
                probability[k, t] = p
        return -np.log(probability)

    def distribution(self, context: Sequence[int], choices: int) -> np.ndarray:
        """P(x | context) of the highest order, for each x of 0 … choices − 1.

        `context` is all that stands before; where nothing takes turns, its last order − 1 symbols
        are enough.
        """
        padded = [self.BEFORE] * (self.order - 1) + list(context)
        p_V = np.full(choices, 1.0 / choices)
        for k in range(self.order):
            given = (len(context) % self.period, *padded[len(padded) - k :])
            if followers := self.counts[k].get(given):
                p_V *= self.discount * len(followers)
                p_V[list(followers)] += np.array(list(followers.values())) - self.discount
                p_V /= self.totals[k][given]
        return p_V


def best_ngram(
    train: Sequence[Sequence[int]],
    val: Sequence[Sequence[int]],
    choices: Sequence[Sequence[int]],
    max_order: int,
    discounts: Sequence[float] = (0.5, 0.7, 0.9),
    period: int = 1,
) -> tuple[NGram, int]:
    """The n-gram and the order that give the validation sequences the fewest nats.

    `choices` belongs to `val`, as in `NGram.nats`.
    """
    best: tuple[float, NGram, int] | None = None
    counted = NGram(max_order, discounts[0], period).fit(train)
    for discount in discounts:
        model = counted.discounted(discount)
        nats = sum(model.nats(s, c).sum(1) for s, c in zip(val, choices, strict=True))
        order = int(np.argmin(nats))
        if best is None or nats[order] < best[0]:
            best = (float(nats[order]), model, order + 1)
    assert best is not None
    return best[1], best[2]
