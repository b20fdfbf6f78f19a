"""Check settings against a constructor's signature: names, types and constraints."""

from __future__ import annotations

import typing
from collections.abc import Callable, Set
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from musegen.config.renamed import check_renamed_setting, check_renamed_value
from musegen.config.signatures import parameters_of
from musegen.config.typed import is_path
from musegen.constraints import Seed, convert
from musegen.errors import UserError, unknown_name


def check_settings(
    target: Callable[..., Any],
    settings: dict[str, Any],
    where: str,
    given: Set[str] = frozenset(),
) -> dict[str, Any]:
    """The settings with their values converted to the types of `target`'s parameters.

    `where` is the config group, for messages; `given` names the arguments that the caller adds.
    `~` at the start of a path is the home folder.
    Raises `UserError` for a name that is not a parameter or was renamed, a value of the wrong
    type, and a value that violates a constraint of the annotation.
    """
    parameters, hints = parameters_of(target)
    result = {}
    for key, value in settings.items():
        if key in parameters:
            check_renamed_value(f"{where}.{key}", value)
            result[key] = _converted(key, value, hints.get(key, Any), f"{where}.{key}")
        elif any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            result[key] = value
        else:
            known = set(parameters) - given
            check_renamed_setting(where, key, value, known)
            raise unknown_name(f"{where}.{key}", key, known, "setting")
    missing = [
        name
        for name, p in parameters.items()
        if p.default is p.empty
        and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
        and name not in settings
        and name not in given | {"spec", "codec"}
    ]
    if missing:
        raise UserError(f"{where}: missing {', '.join(missing)}; write {where}.{missing[0]}=…")
    return result


def check_seed(value: Any, where: str) -> int:
    """A seed, 0 to 2³² − 1. Raises `UserError` for anything else."""
    seed: int = convert(value, Seed, where)
    return seed


def _converted(key: str, value: Any, hint: Any, where: str) -> Any:
    nested: Any = next((h for h in (hint, *typing.get_args(hint)) if is_dataclass(h)), None)
    if nested is not None and isinstance(value, dict):
        value = nested(**check_settings(nested, value, where))  # e.g. the settings of a codec
    if value == "" and is_path(hint):
        raise UserError(f"{where}=: empty; write {where}=PATH")
    converted = check_seed(value, where) if key == "seed" else convert(value, hint, where)
    return converted.expanduser() if isinstance(converted, Path) else converted
