"""Words that were private names once and must not come back in their old meaning."""

from __future__ import annotations

import re
from pathlib import Path

from conftest import ROOT

SCANNED = ("musegen", "datamodules", "benchmarks", "conf", "docs", "tests")
SUFFIXES = {".py", ".md", ".yaml", ".html", ".js", ".css"}
QUOTES = {
    "musegen/config/renamed.py",
    "tests/config/test_renamed.py",
    "tests/test_words.py",
}
"""Files that have to quote old names: the register of renamed settings, and its tests."""
OLD_SETTING = re.compile(r"\bdata\.teach\b|\bteach=\w+")
"""The old name of `data.loss_on`, which documents and messages may quote."""
OLD_WORDS = re.compile(
    r"(?<![a-z])"
    r"(teach|teaches|teaching|taught|by[\s_]+lot|lookbacks?|look(s|ed|ing)?[\s_]+back"
    r"|flatter(s|ed|ing)?|anew|begun|mend(s|ed|ing)?)"
    r"(?![a-z])",
    re.IGNORECASE,
)
"""An underscore or a digit ends a word, so that names of functions are read too."""


def scanned_files() -> list[Path]:
    found = [p for d in SCANNED for p in (ROOT / d).rglob("*") if p.suffix in SUFFIXES]
    return sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "train.py", *found])


def old_words(text: str) -> list[tuple[int, str]]:
    """(line, word) for every old word of a text."""
    text = OLD_SETTING.sub(lambda found: " " * len(found[0]), text)
    return [
        (text.count("\n", 0, found.start()) + 1, " ".join(found[1].split()))
        for found in OLD_WORDS.finditer(text)
    ]


def test_no_old_word_is_left() -> None:
    found = {
        name: words
        for path in scanned_files()
        if (name := path.relative_to(ROOT).as_posix()) not in QUOTES
        and (words := old_words(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_the_search_finds_old_words_and_nothing_else() -> None:
    text = "What was taught\nlooks\nback: data.teach=last, drawn_by_lot; a lottery, a flat teacher"
    assert old_words(text) == [(1, "taught"), (2, "looks back"), (3, "by_lot")]
