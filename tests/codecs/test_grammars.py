"""Which symbols may follow: against every string of a language, by enumeration."""

import itertools

import numpy as np
import pytest

from musegen.codecs.grammars import END, GRAMMARS


def members(name: str, longest: int) -> set[str]:
    """All strings up to a length, by a definition that shares no code with the grammar."""
    if name in ("anbn", "anbncn"):
        symbols = GRAMMARS[name].symbols
        return {"".join(s * n for s in symbols) for n in range(1, longest // len(symbols) + 1)}
    found = set()
    for length in range(longest + 1):
        for letters in itertools.product(GRAMMARS[name].symbols, repeat=length):
            text = rest = "".join(letters)
            while "()" in rest or "[]" in rest:
                rest = rest.replace("()", "").replace("[]", "")
            if not rest:
                found.add(text)
    return found


@pytest.mark.parametrize("name", GRAMMARS)
def test_legal_symbols_are_those_of_the_longer_strings(name):
    language = members(name, 8)
    for text in (t for t in language if 0 < len(t) <= (6 if name != "dyck2" else 4)):
        for i, may in enumerate(GRAMMARS[name].legal(text)):
            prefix = text[:i]
            # A string with the prefix is at most as long again as the prefix.
            follow = {t[i] if len(t) > i else END for t in language if t.startswith(prefix)}
            if 2 * (i + 1) <= 8 and not (name == "anbncn" and 3 * (i + 1) > 8):
                assert may == follow, (text, i)
            assert (text[i] if i < len(text) else END) in may


@pytest.mark.parametrize("name", GRAMMARS)
def test_drawn_strings_belong_to_the_language(name):
    rng = np.random.default_rng(0)
    language = members(name, 8)
    for n in (1, 2):
        assert GRAMMARS[name].nested(n) in language
        assert all(GRAMMARS[name].drawn(n, rng) in language for _ in range(20))


def test_the_deepest_brackets():
    assert GRAMMARS["dyck2"].nested(3) == "([()])"
    assert GRAMMARS["anbncn"].nested(2) == "001122"
