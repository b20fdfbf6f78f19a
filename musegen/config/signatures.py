"""The settings of a constructor, from its signature."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Any

from hydra.utils import get_object

from musegen.config.groups import config_choices
from musegen.config.renamed import check_renamed_target
from musegen.errors import UserError
from musegen.runtime.own_code import allow_current_folder


def parameters_of(
    target: Callable[..., Any],
) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """Parameters and their types, by name.

    The **settings of a class are the parameters of its base class. The **settings of a function
    are those of the callable in its attribute `passes_to`, if there is one. A class may have more
    settings, which whoever builds it applies: the parameters of its attribute `built_with`.
    """
    parameters: dict[str, inspect.Parameter] = {}
    hints: dict[str, Any] = {}
    owners = target.__mro__ if inspect.isclass(target) else (target, *passed_on_to(target))
    for owner in owners:
        call = owner.__init__ if inspect.isclass(owner) else owner
        own = inspect.signature(call).parameters
        parameters = {**own, **parameters}
        hints = {**typing.get_type_hints(call, include_extras=True), **hints}
        if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
            parameters = {k: p for k, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
            break
    if (built_with := getattr(target, "built_with", None)) is not None:
        parameters |= inspect.signature(built_with).parameters
        hints |= typing.get_type_hints(built_with, include_extras=True)
    named = {k: p for k, p in parameters.items() if k != "self" and p.kind is not p.VAR_POSITIONAL}
    return named, hints


def passed_on_to(target: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    """The callable that receives the target's **settings, if the target names one."""
    return (target.passes_to,) if hasattr(target, "passes_to") else ()


def target_of(node: Any, where: str) -> Any:
    """The constructor in a node's `_target_`. Raises `UserError` if it cannot be imported."""
    path = node.get("_target_") if node is not None else None
    if not path:
        raise UserError(
            f"{where}: not chosen; write {where}=NAME with one of {config_choices(where)}"
        )
    check_renamed_target(where, path)
    allow_current_folder()
    try:
        return get_object(path)
    except Exception as e:
        raise UserError(f"{where}._target_={path}: cannot be imported ({e})") from e


def is_node(value: Any) -> bool:
    """Whether a config value has a `_target_`."""
    return isinstance(value, dict) and "_target_" in value


def accepts_setting(node: dict[str, Any], name: str) -> bool:
    """Whether the node's constructor has a parameter of this name."""
    return name in parameters_of(target_of(node, name))[0]
