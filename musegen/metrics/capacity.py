"""How far a net counts: its likeliest symbol after every prefix, against what may follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from musegen.codecs.grammars import END, Grammar


class Counted(NamedTuple):
    """The string of size n, spelt with its end as one more symbol, and what the net said.

    `differing` counts the positions where the two differ: the course's measure, in which the
    first "1", which nothing announces, costs one. `right` forgives what the grammar leaves open:
    after every prefix the likeliest symbol was one that may follow, and the end came exactly
    where it belongs.
    """

    n: int
    target: str
    predicted: str
    differing: int
    right: bool


def counted(model: Any, grammar: Grammar, sizes: Sequence[int]) -> Iterator[Counted]:
    """The table's rows for the grammar's deepest strings of these sizes."""
    codec = model.codec
    texts = [grammar.nested(n) for n in sizes]
    spelt = dict(enumerate(codec.symbols)) | {codec.end_class: END}
    # The end is written as the course writes it: 2 after the symbols 0 and 1.
    shown = spelt | {codec.end_class: str(codec.end_class)}
    rows = [codec.encode(t) for t in texts]
    for n, text, row, (_, guess_T) in zip(sizes, texts, rows, model.read(rows), strict=True):
        guesses = guess_T.tolist()
        legal = grammar.legal(text)
        yield Counted(
            n,
            "".join(shown[c] for c in row.tolist()),
            "".join(shown[c] for c in guesses),
            int((guess_T != row).sum()),
            all(spelt[g] in may for g, may in zip(guesses, legal, strict=True)),
        )


def capacity(model: Any, grammar: Grammar, up_to: int, stride: int = 50) -> int:
    """The largest N ≤ `up_to` with every n ≤ N right; 0 if the first is wrong.

    Sizes are read `stride` at a time, and no further than the first mistake.
    """
    for first in range(1, up_to + 1, stride):
        sizes = range(first, min(first + stride, up_to + 1))
        for row in counted(model, grammar, sizes):
            if not row.right:
                return row.n - 1
    return up_to
