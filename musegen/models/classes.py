"""The class of a model outside musegen, from the import path in its checkpoint."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from musegen.errors import UserError
from musegen.models.base import Model, import_path
from musegen.runtime.own_code import allow_current_folder


def find_foreign_class(path: str, checkpoint: Path) -> type[Model]:
    """The model class outside musegen with this import path.

    It is imported only if the config of the run folder that holds the
    checkpoint names it: a checkpoint alone runs no code. A class that this process has already
    imported, for example because the command names it, is taken as it is.

    Raises `UserError` for a class that cannot be imported, or that may not be.
    """
    if loaded := [c for c in _subclasses(Model) if import_path(c) == path]:
        return loaded[-1]  # in a notebook a class may be defined several times
    target = _named_in_config(checkpoint)
    if not target:
        module = path.rpartition(".")[0]
        raise UserError(
            f"{checkpoint}: its model {path} is not part of musegen, and there is no config.yaml "
            f"of its run that names it; in Python, import {module} before musegen.load"
        )
    found = _imported(target, checkpoint)
    if not (isinstance(found, type) and issubclass(found, Model) and import_path(found) == path):
        raise UserError(
            f"{checkpoint}: a checkpoint of {path}, but its run's config names {target}"
        )
    return found


def _imported(target: str, checkpoint: Path) -> Any:
    allow_current_folder()
    try:
        return pkgutil.resolve_name(target)
    except Exception as e:
        raise UserError(
            f"{checkpoint}: its model {target} cannot be imported ({e}); start the command in the "
            "folder of that file, or add the folder to PYTHONPATH"
        ) from e


def _named_in_config(checkpoint: Path) -> str | None:
    """The `_target_` of the model in the config of the run folder that holds the checkpoint."""
    try:
        config = OmegaConf.load(checkpoint.parent.parent / "config.yaml")
        target = OmegaConf.select(config, "model._target_")
    except Exception:  # no such file, or any of the errors of a damaged one
        return None
    return None if target is None else str(target)


def _subclasses(cls: Any) -> Iterator[type[Model]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)
