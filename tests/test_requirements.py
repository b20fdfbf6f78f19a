"""The requirements are complete, have lower bounds, and allow what constraints.txt pins.

`.ci/lowest` installs the lower bounds, tries them and lists them in `.ci/lowest.txt`.
"""

from __future__ import annotations

import ast
import sys
import tomllib

from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {k: v for k, v in PROJECT["optional-dependencies"].items() if k != "test"}
COMES_WITH = {
    "lightning_fabric": "pytorch-lightning",
    "markupsafe": "jinja2",
    "omegaconf": "hydra-core",
    "pydantic_core": "pydantic",
    "urllib3": "requests",
}
"""Packages that are imported, and are installed with another one."""
PROVIDED_BY = {"hydra": "hydra-core"}
"""Import names that differ from the name of the distribution."""


def requirements() -> list[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    found = [Requirement(text) for group in groups for text in group]
    return [r for r in found if r.name not in ("musegen", "ruff", "mypy")]


def imported_packages() -> set[str]:
    """The distributions that musegen/ and datamodules/ import."""
    modules = set()
    for path in [*(ROOT / "musegen").rglob("*.py"), *(ROOT / "datamodules").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module)
    roots = {module.split(".")[0] for module in modules}
    outside = roots - set(sys.stdlib_module_names) - {"musegen", "datamodules"}
    return {canonicalize_name(COMES_WITH.get(n, PROVIDED_BY.get(n, n))) for n in outside}


def test_every_imported_package_is_required() -> None:
    texts = [*PROJECT["dependencies"], *(text for group in EXTRAS.values() for text in group)]
    assert imported_packages() <= {canonicalize_name(Requirement(t).name) for t in texts}


def test_every_requirement_has_a_lower_bound() -> None:
    for requirement in requirements():
        assert ">=" in {s.operator for s in requirement.specifier}, requirement


def test_every_lower_bound_was_tried() -> None:
    bounds = {
        f"{r.name}=={s.version}" for r in requirements() for s in r.specifier if s.operator == ">="
    }
    tried = (ROOT / ".ci" / "lowest.txt").read_text(encoding="utf-8").split()
    assert bounds == set(tried), "run .ci/lowest"


def test_the_pinned_versions_are_allowed() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    for requirement in requirements():
        version = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), requirement
