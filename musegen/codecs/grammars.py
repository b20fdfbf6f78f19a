"""Formal languages for counting networks, and the symbols that may follow a prefix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

END = "end"


@dataclass(frozen=True)
class Grammar:
    """A language whose strings have a size n.

    - nested(n): the string of size n with the deepest nesting.
    - drawn(n, rng): a random string of size n; the same as `nested` if there is only one.
    - legal(text): for each of the len(text) + 1 prefixes, the symbols (or `END`) that may follow.
    """

    symbols: str
    nested: Callable[[int], str]
    drawn: Callable[[int, np.random.Generator], str]
    legal: Callable[[str], list[set[str]]]


def _blocks(symbols: str) -> Grammar:
    """aⁿbⁿ…: the first b determines all that follows."""

    def nested(n: int) -> str:
        return "".join(s * n for s in symbols)

    def legal(text: str) -> list[set[str]]:
        n = text.count(symbols[0])
        open_prefixes = [{symbols[0]}, *[{symbols[0], symbols[1]}] * n]
        return [*open_prefixes, *({c} for c in text[n + 1 :]), {END}]

    return Grammar(symbols, nested, lambda n, rng: nested(n), legal)


def _dyck(pairs: str) -> Grammar:
    """Balanced brackets, n pairs; `pairs` lists each opening bracket and its closing one."""
    closing = dict(zip(pairs[::2], pairs[1::2], strict=True))

    def nested(n: int) -> str:
        opened = [pairs[2 * (i % len(closing))] for i in range(n)]
        return "".join(opened) + "".join(closing[c] for c in reversed(opened))

    def drawn(n: int, rng: np.random.Generator) -> str:
        text: list[str] = []
        stack: list[str] = []
        to_open = n
        while to_open or stack:
            if to_open and (not stack or rng.random() < 0.5):
                text.append(pairs[2 * int(rng.integers(len(closing)))])
                stack.append(closing[text[-1]])
                to_open -= 1
            else:
                text.append(stack.pop())
        return "".join(text)

    def legal(text: str) -> list[set[str]]:
        stack: list[str] = []
        allowed = [{*closing, END}]
        for c in text:
            if c in closing:
                stack.append(closing[c])
            else:
                stack.pop()
            allowed.append({*closing, stack[-1] if stack else END})
        return allowed

    return Grammar(pairs, nested, drawn, legal)


GRAMMARS: dict[str, Grammar] = {
    "anbn": _blocks("01"),
    "anbncn": _blocks("012"),
    "dyck1": _dyck("()"),
    "dyck2": _dyck("()[]"),
}
"""aⁿbⁿ as 0ⁿ1ⁿ, aⁿbⁿcⁿ as 0ⁿ1ⁿ2ⁿ, and balanced brackets of one and of two kinds."""
