"""Values as a user types them: texts and paths stay as they are, other values are YAML."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Union

from omegaconf import DictConfig, OmegaConf

from musegen.config.signatures import parameters_of, target_of


def is_path(hint: Any) -> bool:
    """Whether the annotation takes a path."""
    return Path in _alternatives(hint)


def absolute(path: Any) -> str:
    """The path as a text that starts at the root; `~` is the home folder."""
    return str(Path(str(path)).expanduser().absolute())


def is_text(hint: Any) -> bool:
    """Whether the annotation takes a text or a path, and neither numbers nor lists."""
    kinds = set(_alternatives(hint))
    others = kinds & {int, float, bool, Any} or any(typing.get_origin(k) for k in kinds)
    return bool(kinds & {str, Path}) and not others


def read_typed(function: Callable[..., Any], typed: dict[str, Any]) -> dict[str, Any]:
    """The settings of `function` from the command line, read by its annotations."""
    hints = parameters_of(function)[1]
    return {k: _read(v, hints.get(k)) if isinstance(v, str) else v for k, v in typed.items()}


def keep_texts(cfg: DictConfig, overrides: Iterable[str]) -> None:
    """Set texts and paths to what was typed, where Hydra has read a number, a list or true."""
    for override in overrides:
        key, _, typed = override.lstrip("+").partition("=")
        if "." not in key or key.startswith("hydra."):
            continue
        value = OmegaConf.select(cfg, key)
        if value is not None and not isinstance(value, str) and is_text(setting_hint(cfg, key)):
            OmegaConf.update(cfg, key, typed)


def merge_typed(cfg: DictConfig, overrides: Iterable[str]) -> None:
    """Set `key=value` overrides in a config."""
    for override in overrides:
        key, _, typed = override.partition("=")
        hint = setting_hint(cfg, key) if "." in key else None
        OmegaConf.update(cfg, key, _read(typed, hint), force_add=True)


def absolute_overrides(cfg: dict[str, Any], overrides: Iterable[str]) -> list[str]:
    """The overrides with the paths of the resolved config `cfg`, which are absolute."""
    result = []
    for override in overrides:
        key = override.partition("=")[0]
        named = key in ("init_from", "sound")
        if named or ("." in key and is_path(setting_hint(cfg, key))):
            value: Any = cfg
            for name in key.split("."):
                value = value[name]
            override = override if value is None else f"{key}={value}"
        result.append(override)
    return result


def setting_hint(cfg: Any, key: str) -> Any:
    """The annotation of the setting `group.name` or `group.entry.name`; None if there is none."""
    group, *entries, name = key.split(".")
    if group in ("sample", "preview", "assess"):
        model = target_of(cfg["model"], "model")
        target = model.assess if group == "assess" else model.generate
    else:
        node = cfg.get(group)
        for entry in entries:
            node = node.get(entry) if OmegaConf.is_dict(node) or isinstance(node, dict) else None
        if not node or "_target_" not in node:
            return None
        target = target_of(node, group)
    return parameters_of(target)[1].get(name)


def _read(typed: str, hint: Any) -> Any:
    kinds = _alternatives(hint)
    if typed == "null" and (type(None) in kinds or hint is None):
        return None
    if is_text(hint) or any(typed in typing.get_args(k) for k in kinds):
        return typed
    try:
        return OmegaConf.to_object(OmegaConf.from_dotlist([f"value={typed}"]))["value"]  # type: ignore
    except Exception:  # not YAML
        return typed


def _alternatives(hint: Any) -> tuple[Any, ...]:
    """The parts of a union."""
    if typing.get_origin(hint) in (Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)
