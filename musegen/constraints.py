"""Constraints on settings, written as annotations and checked for every caller.

    @check_arguments
    def __init__(self, hidden: PositiveInt = 150, dropout: DropoutRate = 0.0): ...

The same annotations are read for settings from the command line (the message then names the config
group) and for callers from Python.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeVar, Union

import numpy as np
from annotated_types import Ge, Gt, Interval, Le, Lt
from pydantic import (
    AfterValidator,
    AllowInfNan,
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from musegen.errors import UserError

PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0), AllowInfNan(False)]
NonNegativeFloat = Annotated[float, Ge(0), AllowInfNan(False)]
DropoutRate = Annotated[float, Ge(0), Le(0.999)]
"""The probability that a unit is set to 0. Close to 1, the few units that are left explode."""
SampleLength = Annotated[int, Interval(ge=1, le=1_000_000)]
"""Steps of a generated sequence, or steps before one: more take days, or more memory than there is.
"""
SampleCount = Annotated[int, Interval(ge=1, le=100_000)]
"""Sequences that are generated at once."""
MIN_TEMPERATURE = 1e-3
PositiveTemperature = Annotated[float, Ge(MIN_TEMPERATURE), AllowInfNan(False)]
"""What logits or energies are divided by. A smaller one overflows, and draws nothing but modes."""
Probability = Annotated[float, Interval(ge=0, le=1)]
OpenFraction = Annotated[float, Interval(gt=0, lt=1)]
"""A part of a whole: not 0, and not all of it."""
PositiveFraction = Annotated[float, Interval(gt=0, le=1)]
"""A part of a whole, or all of it: not 0."""
BeatsPerMinute = Annotated[float, Interval(ge=4, le=1000)]
"""A MIDI file can have no slower tempo than 3.6 quarter notes per minute."""
Odds = Annotated[float, Interval(ge=1, le=1e6)]
"""What the odds of something are multiplied by. 1 changes nothing."""
Seed = Annotated[int, Ge(0), Lt(2**32)]
MidiPitch = Annotated[int, Interval(ge=0, le=127)]


def _check_temperature(value: float) -> float:
    if 0 < value < MIN_TEMPERATURE:
        raise PydanticCustomError(
            "temperature", f"Input should be 0, or at least {MIN_TEMPERATURE}"
        )
    return value


Temperature = Annotated[NonNegativeFloat, AfterValidator(_check_temperature)]
"""A temperature that may be 0, for the most probable class."""

F = TypeVar("F", bound=Callable[..., Any])


def convert(value: Any, hint: Any, where: str) -> Any:
    """The value converted to the annotation `hint`; `where` is the setting's name.

    Raises `UserError` of one line for a value that does not fit. `true` is not a number.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool) and not _takes_bool(hint):
        raise UserError(f"{where}={value}: should be a number or a name, not true or false")
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as e:
        expected = dict.fromkeys(p["msg"].removeprefix("Input should be ") for p in e.errors())
        raise UserError(f"{where}={value}: should be {' or '.join(expected)}") from e


def check_arguments(function: F) -> F:
    """Check and convert the arguments of every call by the annotations of `function`.

    `self`, `spec`, `codec` and arguments without an annotation are passed on unchanged. Raises
    `UserError` like `convert`.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        hints = _hints(function)
        for name, value in bound.arguments.items():
            if name in hints:
                bound.arguments[name] = convert(value, hints[name], name)
        return function(*bound.args, **bound.kwargs)

    # Lightning reads a constructor by getfullargspec, which does not follow __wrapped__.
    checked.__signature__ = signature  # type: ignore[attr-defined]
    return typing.cast(F, checked)


def check_fields(instance: Any) -> None:
    """Check and convert the fields of a dataclass; for the first line of `__post_init__`."""
    owner: Any = type(instance)
    for name, hint in _hints(owner).items():
        value = convert(getattr(instance, name), hint, name)
        object.__setattr__(instance, name, value)


@functools.cache
def _hints(owner: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(owner, include_extras=True)
    return {k: v for k, v in hints.items() if k not in ("self", "spec", "codec", "return")}


@functools.lru_cache(maxsize=1024)
def _cached_adapter(hint: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticSchemaGenerationError:  # an annotation that only a type checker understands
        return TypeAdapter(Any)
    except PydanticUserError:
        return TypeAdapter(hint)  # a dataclass must not be given a configuration


def _adapter(hint: Any) -> TypeAdapter[Any]:
    try:
        return _cached_adapter(hint)
    except TypeError:  # an annotation that cannot be hashed
        return _cached_adapter.__wrapped__(hint)


def _takes_bool(hint: Any) -> bool:
    """Whether `true` is a legal value of the annotation."""
    origin = typing.get_origin(hint)
    if origin is Annotated:
        return _takes_bool(typing.get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return any(map(_takes_bool, typing.get_args(hint)))
    if origin is Literal:
        return any(isinstance(choice, bool) for choice in typing.get_args(hint))
    return hint not in (int, float, str, complex)
