"""Docstrings are read as Markdown in the source; autodoc reads reStructuredText.

The two agree on lists and backticks. What differs: an indented block is an equation or code, and
`*` and a final `_` are plain characters.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

CODE_SPAN = re.compile(r"(`[^`]+`)")
SPECIAL = re.compile(r"\*|(?<=\w)_(?!\w)|\|")


def convert(lines: list[str]) -> list[str]:
    """The docstring's lines as reStructuredText."""
    out: list[str] = []
    literal, in_list = False, False
    for line in lines:
        indented = line.startswith(" ")
        if not line.strip():
            out.append(line)
            continue
        if not indented:
            literal, in_list = False, line.startswith("- ")
        elif not literal and not in_list and out and not out[-1].strip():
            out += ["::", ""]
            literal = True
        out.append(line if literal else _escape(line))
    return out


def _escape(line: str) -> str:
    parts = CODE_SPAN.split(line)
    return "".join(p if i % 2 else SPECIAL.sub(r"\\\g<0>", p) for i, p in enumerate(parts))


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    generated = lines and lines[0].startswith("Alias for field number")  # of a named tuple
    lines[:] = [] if generated else convert(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}
