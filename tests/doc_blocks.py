"""The fenced code blocks of README.md and docs/, and the commands in them."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT

FENCE = re.compile(
    r"(?P<mark><!-- not run: (?P<reason>[^>]+) -->\n)?"
    r"^```(?P<language>[^\n`]*)\n(?P<code>.*?)^```$",
    re.M | re.S,
)
"""A block, with the mark above it that says why it is not run."""
ASSIGNMENT = re.compile(r"[A-Z_]+=")
KEYWORDS = {"do", "then", "if", "srun"}
"""What may stand before a command."""


@dataclass(frozen=True)
class Block:
    """A fenced code block; `reason` is why it is not run, or empty."""

    page: str
    line: int
    language: str
    code: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[Path]:
    built = ROOT / "docs" / "_build"
    found = [p for p in (ROOT / "docs").rglob("*.md") if built not in p.parents]
    return [ROOT / "README.md", *sorted(found)]


def blocks(*languages: str) -> list[Block]:
    """The blocks in these languages. Cells of a page that is a notebook are run by its build."""
    found = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        name = page.relative_to(ROOT).as_posix()
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start("language")) + 1
            block = Block(name, line, match["language"], match["code"], match["reason"] or "")
            if block.language in languages:
                found.append(block)
    return found


def commands(code: str) -> list[list[str]]:
    """The commands of a bash block as lists of words, without what only surrounds them.

    Left out are comments, assignments of variables before a command, the shell's keywords, the
    folder of an environment's commands, the file that the output goes to, and commands of the shell
    that have no effect here.
    """
    found = []
    for line in code.replace("\\\n", " ").splitlines():
        for words in _simple_commands(shlex.split(line, comments=True)):
            while words and (ASSIGNMENT.match(words[0]) or words[0] in KEYWORDS):
                words = words[1:]
            if ">" in words:
                words = words[: words.index(">")]
            if words and words[0] not in ("for", "done", "fi", "export", "[", "source"):
                found.append([words[0].removeprefix(".venv/bin/"), *words[1:]])
    return found


def _simple_commands(words: list[str]) -> list[list[str]]:
    """The words between `;` and `&&`."""
    found: list[list[str]] = [[]]
    for word in words:
        if word == "&&":
            found.append([])
        elif word.endswith(";"):
            found[-1].append(word.removesuffix(";"))
            found.append([])
        else:
            found[-1].append(word)
    return found


def train_arguments(command: list[str]) -> list[str] | None:
    """The arguments of a training in any of the ways to start it; None for other commands."""
    if command[:2] == ["musegen", "train"]:
        return command[2:]
    return command[command.index("train.py") + 1 :] if "train.py" in command else None
