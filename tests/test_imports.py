"""Packages import only lower layers, and `import musegen` loads nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

LAYERS = {
    "__init__": -1,
    "errors": 0,
    "constraints": 1,
    "specs": 1,
    "training.lightning_compat": 1,  # imports Lightning and errors, nothing else
    "runtime": 2,
    "codecs": 3,
    "metrics": 4,
    "energy": 5,
    "baselines": 5,
    # The parts of training that models need: no trainer, no callback.
    "training.checkpoint_files": 3,
    "training.optimizer": 3,
    "config.sound": 3,
    # How samples show themselves: no report, no other config.
    "render.waveform": 3,
    "render.notation": 4,
    "render.additive": 4,
    "render.plots": 4,
    "render.tiles": 4,
    "render.piano": 5,
    "render.soundfont": 5,
    "render.audio": 6,
    "render.shown": 7,
    "models": 8,
    "config": 9,
    "render": 10,
    "training": 11,
    "sharing": 11,
    "studio": 12,
    "cli": 13,
    "api": 14,
    "__main__": 15,
}
"""The layer of each package of musegen/: it imports only from itself and from lower layers."""
HYDRA = ("config", "cli.train", "cli.sweep")
FOR_DATAMODULES = {"__init__", "specs", "errors", "constraints", "codecs", "runtime"}


def imported(path: Path) -> set[str]:
    """Every module, and every name of a module, that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def layer_name(module: str) -> str:
    """`musegen.training.optimizer.Optimizer` → `training.optimizer`: the longest known prefix."""
    parts = module.split(".")[1:] or ["__init__"]
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in LAYERS:
            return name
    return "__init__"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", files("musegen"), ids=str)
def test_musegen_imports_only_lower_layers(path: Path) -> None:
    own = layer_name(module_of(path))
    if own == "__init__":
        return  # the public API imports its names on first use
    for name in imported(path):
        root = name.split(".")[0]
        assert root != "datamodules", f"{path} imports {name}"
        if root == "musegen":
            other = layer_name(name)
            assert other == own or LAYERS[other] < LAYERS[own], f"{own} imports {name}"
        if root == "hydra":
            assert layer_name(module_of(path)) == "config" or module_of(path).endswith(HYDRA)


@pytest.mark.parametrize("path", files("datamodules"), ids=str)
def test_datamodules_import_only_what_they_may(path: Path) -> None:
    used = {layer_name(n) for n in imported(path) if n.split(".")[0] == "musegen"}
    assert used <= FOR_DATAMODULES


def test_import_musegen_loads_nothing_heavy() -> None:
    code = (
        "import sys, musegen; "
        "print(musegen.__version__, *sorted({m.split('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not {"torch", "numpy", "pydantic", "pytorch_lightning", "hydra"} & set(
        done.stdout.split()
    )


def test_every_public_name_can_be_imported() -> None:
    import musegen

    for name in musegen.__all__:
        assert getattr(musegen, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = musegen.nothing
