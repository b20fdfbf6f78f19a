"""How far a network counts: its most likely symbol after every prefix against the grammar."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from musegen.codecs.grammars import END, Grammar


class Counted(NamedTuple):
    """The string of size n, with its end as one more symbol, and the network's predictions.

    `differing` counts the positions where the two differ. It is the course's measure, in which
    the first "1" is one error, since no network can predict it. `right` is whether after every
    prefix the most likely symbol was one that the grammar allows, with the end at the right place.
    """

    n: int
    target: str
    predicted: str
    differing: int
    right: bool


def counted(model: Any, grammar: Grammar, sizes: Sequence[int]) -> Iterator[Counted]:
    """A `Counted` for the deepest string of each size."""
    codec = model.codec
    texts = [grammar.nested(n) for n in sizes]
    symbols = dict(enumerate(codec.symbols)) | {codec.end_class: END}
    # The end is printed as in the course: 2, after the symbols 0 and 1.
    printed = symbols | {codec.end_class: str(codec.end_class)}
    rows = [codec.encode(t) for t in texts]
    for n, text, row, (_, guess_T) in zip(sizes, texts, rows, model.read(rows), strict=True):
        guesses = guess_T.tolist()
        legal = grammar.legal(text)
        yield Counted(
            n,
            "".join(printed[c] for c in row.tolist()),
            "".join(printed[c] for c in guesses),
            int((guess_T != row).sum()),
            all(symbols[g] in allowed for g, allowed in zip(guesses, legal, strict=True)),
        )


def capacity(model: Any, grammar: Grammar, up_to: int, stride: int = 50) -> int:
    """The largest N ≤ `up_to` such that every n ≤ N is right; 0 if n = 1 is wrong.

    The strings are read `stride` sizes at a time, until the first error.
    """
    for first in range(1, up_to + 1, stride):
        sizes = range(first, min(first + stride, up_to + 1))
        for row in counted(model, grammar, sizes):
            if not row.right:
                return row.n - 1
    return up_to
