"""The settings of a model's `generate`, for the page to show and for the server to check."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, Literal, Union

from musegen.config.explanations import explanations
from musegen.config.signatures import parameters_of
from musegen.config.typed import is_path, read_typed
from musegen.config.validation import check_settings
from musegen.errors import UserError
from musegen.models import Model

MAX_LENGTH = 4096
MAX_PIECES = 8
MAX_ROWS = 32
"""Pieces × particles, which are sampled side by side."""
LIMITS = {"n": MAX_PIECES, "length": MAX_LENGTH, "particles": 16, "ais_steps": 1000}
"""What the studio allows at most, so that no request takes for ever."""
HIDDEN = frozenset(("prime", "prime_seconds", "include_prime", "start_ND", "rows", "steps"))
"""Settings that the page replaces by something better."""


def offered(model: Model) -> dict[str, Any]:
    """The annotations of the settings that a client may give, by name. None takes a path."""
    parameters, hints = parameters_of(model.generate)
    known = {name: hints.get(name, Any) for name in parameters}
    return {name: hint for name, hint in known.items() if name not in HIDDEN and not is_path(hint)}


def described(model: Model) -> list[dict[str, Any]]:
    """Each setting with its text, its default, its kind of field and its limits."""
    parameters, _ = parameters_of(model.generate)
    texts = explanations(model.generate, parameters)
    labels = getattr(model.codec, "labels", None)
    result = []
    for name, hint in offered(model).items():
        field = _field(hint)
        if name == "label":
            if labels is None:
                continue
            field = {"kind": "choice", "choices": list(labels)}
        if name == "critic" and getattr(model, "critic", True) is None:
            continue
        if name in LIMITS:
            field["max"] = LIMITS[name]
        default = parameters[name].default
        shown = None if default is parameters[name].empty else default
        result.append({"name": name, "text": texts.get(name, ""), "default": shown, **field})
    return result


def checked(model: Model, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with their values converted. Raises `UserError` for what is not allowed."""
    known = offered(model)
    for name, value in settings.items():
        if name not in known:
            raise UserError(f"{name}: {model.name} has no such setting here")
        if isinstance(value, str) and len(value) > 200:
            raise UserError(f"{name}: too long")
    result = check_settings(model.generate, read_typed(model.generate, settings), "generate")
    for name, most in LIMITS.items():
        if result.get(name, 0) > most:
            raise UserError(f"{name}={result[name]}: the studio allows at most {most}")
    n, particles = result.get("n", 1), result.get("particles", 1)
    if n * particles > MAX_ROWS:
        raise UserError(
            f"n={n}, particles={particles}: the studio allows {MAX_ROWS} particles in all"
        )
    return result


def _field(hint: Any) -> dict[str, Any]:
    """How the page asks for a value of this annotation: number, choice, switch or text."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _field(arguments[0]) | _limits(arguments[1:])
    if origin is Literal:
        return {"kind": "choice", "choices": list(arguments)}
    if origin in (Union, types.UnionType):
        (first, *_) = (a for a in arguments if a is not type(None))
        return _field(first)
    if hint is bool:
        return {"kind": "switch"}
    if hint in (int, float):
        return {"kind": "number", "whole": hint is int}
    return {"kind": "text"}


def _limits(annotations: tuple[Any, ...]) -> dict[str, float]:
    """The closed limits of an annotation, and its open ones."""
    names = {"ge": "min", "gt": "above", "le": "max", "lt": "below"}
    return {
        name: limit
        for annotation in annotations
        for field, name in names.items()
        if isinstance(limit := getattr(annotation, field, None), (int, float))
    }
