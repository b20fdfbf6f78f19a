"""Imports run one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import ROOT

LAYERS = {
    "contracts": 0, "progress": 0, "rows": 0, "affine": 1, "memory": 0, "interrupts": 0, "ranks": 0,
    "atomic": 1, "codecs": 2, "checkpoint_files": 2, "gibbs": 2, "sampling": 1, "optim": 1,
    "metrics": 3, "models": 4, "render": 5, "trainer": 5, "loggers": 5, "callbacks": 6, "build": 6,
    "cli": 7, "jobs": 8, "evaluate": 8, "generate": 9, "report": 9, "counting": 9, "dissect": 9,
    "launch": 9, "train": 10, "sweep": 11,
}  # fmt: skip
"""Who may import whom in musegen/: only the same room or a lower one."""


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def room(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "musegen" else None


@pytest.mark.parametrize("path", files("musegen"), ids=str)
def test_musegen_looks_only_down(path: Path) -> None:
    parts = path.relative_to(ROOT / "musegen").with_suffix("").parts
    names = imported(path)
    assert not any(n.split(".")[0] == "datamodules" for n in names)
    if parts[0] == "__init__":
        return
    for name in names:
        other = room(name)
        if other in LAYERS and other != parts[0]:
            assert LAYERS[other] < LAYERS[parts[0]], f"{path.name} imports {name}"
        if name.split(".")[0] == "hydra":
            assert parts[0] in ("build", "train", "sweep"), "Hydra stays in three files"


@pytest.mark.parametrize("path", files("datamodules"), ids=str)
def test_datamodules_know_little_of_musegen(path: Path) -> None:
    rooms = {room(n) for n in imported(path)} - {None}
    assert rooms <= {"contracts", "codecs", "progress", "ranks", "atomic"}
