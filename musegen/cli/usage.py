"""`musegen COMMAND --help`: how to call a command, with its settings read from signatures."""

from __future__ import annotations

import inspect
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple, Union

from musegen.config.explanations import explanations
from musegen.config.signatures import parameters_of

HELP_FLAGS = ("-h", "--help")
WIDTH = 96
INDENTED: dict[str, Any] = {"initial_indent": 6 * " ", "subsequent_indent": 6 * " "}
"""Arguments of `textwrap.wrap` for the explanation of a setting."""


class Section(NamedTuple):
    """A list of settings under a heading; `prefix` is the config group, as in `assess.seed`.

    - values: the values of a composed config, which replace the defaults of the signature.
    """

    heading: str
    function: Callable[..., Any]
    prefix: str = ""
    without: tuple[str, ...] = ()
    values: Mapping[str, Any] = MappingProxyType({})


def help_requested(arguments: Iterable[str]) -> bool:
    """Whether `-h` or `--help` is among the arguments."""
    return any(a in HELP_FLAGS for a in arguments)


def print_usage(call: str, summary: str, *sections: Section, examples: Sequence[str] = ()) -> None:
    """Print the help of a command and exit with code 0."""
    shown = "\n".join(["examples:", *(f"  musegen {example}" for example in examples)])
    parts = [f"usage: musegen {call}", summary.strip(), *map(section_text, sections)]
    print("\n\n".join(filter(None, [*parts, shown if examples else ""])))
    sys.exit(0)


def description(function: Callable[..., Any]) -> str:
    """The docstring of a function up to its list of settings."""
    return (inspect.getdoc(function) or "").partition("\n\n- ")[0]


def section_text(section: Section) -> str:
    """The settings of a section, each with its type, its default and one explanation."""
    parameters, hints = parameters_of(section.function)
    texts = explanations(section.function, parameters)
    lines = []
    for name, parameter in parameters.items():
        if name in section.without or parameter.kind is parameter.VAR_KEYWORD:
            continue
        value = section.values.get(name, parameter.default)
        default = "required" if value is parameter.empty else f"default {value_text(value)}"
        lines.append(f"  {section.prefix}{name}  {type_name(hints.get(name, Any))}, {default}")
        lines += textwrap.wrap(texts.get(name, ""), WIDTH, **INDENTED)
    return "\n".join([f"{section.heading}:", *lines]) if lines else ""


def type_name(hint: Any) -> str:
    """The values that an annotation allows, as a user types them."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or hint is inspect.Parameter.empty:
        return "any value"
    if hint is type(None):
        return "null"
    if origin is Annotated:
        return type_name(arguments[0]) + _constraints(arguments[1:])
    if origin is Literal:
        return "|".join(map(value_text, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(map(type_name, arguments))
    if origin is tuple and Ellipsis not in arguments:
        return f"[{','.join(map(type_name, arguments))}]"
    if origin in (list, tuple):
        return f"list of {type_name(arguments[0])}"
    names = {int: "integer", float: "number", bool: "true|false", str: "text", Path: "path"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _constraints(annotations: Iterable[Any]) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        f"{sign} {limit:g}" if limit < 1e6 else f"{sign} {limit}"
        for annotation in annotations
        for field, sign in signs.items()
        if isinstance(limit := getattr(annotation, field, None), (int, float))
    ]
    return f" {', '.join(limits)}" if limits else ""


def value_text(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(value_text, value))}]"
    return str(value)
