"""The config folder: its groups, the choices in each, and the top-level keys."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from omegaconf import OmegaConf

_PACKAGE = Path(__file__).resolve().parents[1]
CONF = next(c for c in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if c.is_dir())
"""The config folder: in the package if it is installed, beside the package in a clone."""

GROUPS = sorted(p.name for p in CONF.iterdir() if p.is_dir())


def config_choices(group: str) -> list[str]:
    """The names that `group=…` can take."""
    return sorted(p.stem for p in (CONF / group).glob("*.yaml"))


@cache
def top_level_keys() -> tuple[str, ...]:
    """The keys of conf/train.yaml that are not groups."""
    own = OmegaConf.load(CONF / "train.yaml")
    return tuple(str(k) for k in own if k not in ("defaults", "hydra"))
