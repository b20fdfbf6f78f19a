"""The legal next symbols, compared with an enumeration of each language."""

import itertools

import numpy as np
import pytest

from musegen.codecs.grammars import END, GRAMMARS


def members(name: str, longest: int) -> set[str]:
    """All strings up to a length, by a definition that shares no code with the grammar."""
    if name in ("anbn", "anbncn"):
        symbols = GRAMMARS[name].symbols
        return {"".join(s * n for s in symbols) for n in range(1, longest // len(symbols) + 1)}
    strings = set()
    for length in range(longest + 1):
        for letters in itertools.product(GRAMMARS[name].symbols, repeat=length):
            text = rest = "".join(letters)
            while "()" in rest or "[]" in rest:
                rest = rest.replace("()", "").replace("[]", "")
            if not rest:
                strings.add(text)
    return strings


@pytest.mark.parametrize("name", GRAMMARS)
def test_legal_symbols_are_those_of_all_strings_with_the_prefix(name):
    language = members(name, 8)
    for text in (t for t in language if 0 < len(t) <= (6 if name != "dyck2" else 4)):
        for i, allowed in enumerate(GRAMMARS[name].legal(text)):
            prefix = text[:i]
            # The shortest string with the prefix is at most twice as long as the prefix.
            expected = {t[i] if len(t) > i else END for t in language if t.startswith(prefix)}
            if 2 * (i + 1) <= 8 and not (name == "anbncn" and 3 * (i + 1) > 8):
                assert allowed == expected, (text, i)
            assert (text[i] if i < len(text) else END) in allowed


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
