"""Files and functions of musegen/ stay short enough to be read at one sitting."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

from conftest import ROOT

MAX_FILE = 400
MAX_FUNCTION = 60
MAX_MEDIAN = 12
LONG_FILES = {"musegen/energy/kernels.py"}
"""All jitted functions are in one file, because Numba's cache checks the date of that file only."""
FILES = sorted((ROOT / "musegen").rglob("*.py"))


def function_lengths(path: Path) -> dict[str, int]:
    """Lines of every function, method and nested function, by its name and first line.

    Counted from `def` to the last line of the body, signature, blank lines and comments included;
    decorators and the docstring are left out.
    """
    lengths = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = last_line(node) - node.lineno + 1
            if ast.get_docstring(node) is not None:
                lines -= last_line(node.body[0]) - node.body[0].lineno + 1
            lengths[f"{node.name}, line {node.lineno}"] = lines
    return lengths


def last_line(node: ast.stmt) -> int:
    assert node.end_lineno is not None
    return node.end_lineno


def test_files_are_short() -> None:
    lines = {p.relative_to(ROOT).as_posix(): len(p.read_text("utf-8").splitlines()) for p in FILES}
    assert {name for name, n in lines.items() if n > MAX_FILE} <= LONG_FILES


def test_functions_are_short() -> None:
    lengths = {f"{p.name}: {name}": n for p in FILES for name, n in function_lengths(p).items()}
    assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION} == {}


def test_the_median_function_is_short() -> None:
    lengths = [n for path in FILES for n in function_lengths(path).values()]
    assert statistics.median(lengths) <= MAX_MEDIAN


def test_how_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "three.py"
    path.write_text('@cache\ndef three(\n    x,\n):\n    """Doc\n\n    string."""\n    return x\n')
    assert function_lengths(path) == {"three, line 2": 4}
