"""`{settings} GROUP`: every setting of every choice of a config group, read from the code.

Names, types, ranges and defaults are those of the constructors' signatures, the texts those of
their docstrings, and what a choice sets otherwise is in its YAML file.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from docutils import nodes
from omegaconf import OmegaConf
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from musegen.cli.usage import description, type_name, value_text
from musegen.config.explanations import explanations
from musegen.config.groups import CONF, config_choices
from musegen.config.signatures import parameters_of, target_of

FILLED = ("self", "spec", "data", "start_ND")
"""Arguments that are no settings: the run passes them."""


def settings_of(
    function: Callable[..., Any], prefix: str, without: Sequence[str] = ()
) -> Iterator[str]:
    """A definition-list entry for each setting, and for those of a nested dataclass."""
    parameters, hints = parameters_of(function)
    texts = explanations(function, parameters)
    for name, parameter in parameters.items():
        if name in (*FILLED, *without) or parameter.kind is parameter.VAR_KEYWORD:
            continue
        hint = hints.get(name, Any)
        if (nested := dataclass_in(hint)) is not None:
            yield from settings_of(nested, f"{prefix}{name}.")
            continue
        required = parameter.default is parameter.empty
        default = "required" if required else f"default `{value_text(parameter.default)}`"
        text = f"<br>{texts[name]}" if name in texts else ""
        yield f"`{prefix}{name}`\n: {escape(type_name(hint))}, {default}{text}\n"


def dataclass_in(hint: Any) -> type | None:
    """The dataclass of a hint such as `Codec | None`."""
    options = (hint, *typing.get_args(hint))
    return next((o for o in options if isinstance(o, type) and dataclasses.is_dataclass(o)), None)


def escape(text: str) -> str:
    """Types as text: `|`, `<` and `[` have a meaning in Markdown."""
    return "".join(f"\\{c}" if c in "|<>[]*_" else c for c in text)


def by_target(group: str) -> dict[Any, dict[str, dict[str, Any]]]:
    """constructor → choice → what its YAML file states."""
    found: dict[Any, dict[str, dict[str, Any]]] = {}
    for choice in config_choices(group):
        stated: Any = OmegaConf.to_container(OmegaConf.load(CONF / group / f"{choice}.yaml"))
        node = stated[group] if "_target_" not in stated and group in stated else stated
        for name, entry in entries(group, node).items():
            target = target_of(entry, f"{group}.{name}")
            found.setdefault(target, {})[name if group in SEVERAL else choice] = {
                k: v for k, v in entry.items() if k != "_target_"
            }
    return found


SEVERAL = ("logger", "callbacks")
"""Groups whose files hold several constructors by name."""


def entries(group: str, node: dict[str, Any]) -> dict[str, Any]:
    named = node if group in SEVERAL else {group: node}
    return {k: v for k, v in named.items() if isinstance(v, dict) and "_target_" in v}


def markdown(group: str) -> str:
    """The section of a group."""
    parts = []
    for target, choices in by_target(group).items():
        prefix = f"{group}."
        if group in SEVERAL:
            name = next(iter(choices))
            prefix, heading = f"{group}.{name}.", f"`{group}.{name}`"
        else:
            heading = ", ".join(f"`{group}={choice}`" for choice in choices)
        parts.append(f"### {heading}\n\n{summary(target)}\n")
        for choice, stated in choices.items():
            values = ", ".join(f"`{k}={value_text(v)}`" for k, v in stated.items())
            if values:
                parts.append(f"`{choice}` sets {values}.\n")
        parts += settings_of(target, prefix, without=("codec",) if group == "model" else ())
        if group == "model":
            parts.append("Samples, as `sample.…`, `preview.…` and for `musegen generate`:\n")
            parts += settings_of(target.generate, "sample.")
            if assess := list(settings_of(target.assess, "assess.")):
                parts += ["Further test metrics:\n", *assess]
    return "\n".join(parts)


def summary(target: Any) -> str:
    """The first paragraph of a docstring."""
    return description(target).split("\n\n")[0]


def experiments() -> str:
    """Every experiment: its comment, and its settings as YAML."""
    parts = []
    for name in config_choices("experiment"):
        lines = (CONF / "experiment" / f"{name}.yaml").read_text("utf-8").splitlines()[1:]
        comment = lines[: _first_code(lines)]
        text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in comment)
        body = "\n".join(lines[len(comment) :])
        parts.append(f"### `experiment={name}`\n\n{text}\n\n```yaml\n{body}\n```\n")
    return "\n".join(parts)


def _first_code(lines: list[str]) -> int:
    return next(i for i, line in enumerate(lines) if not line.startswith("#"))


class Settings(SphinxDirective):
    """`{settings} model` and so on; `{settings} experiment` lists the experiments."""

    required_arguments = 1
    option_spec: ClassVar = {"level": int}
    """The level of the headings, 3 if not given."""

    def run(self) -> list[nodes.Node]:
        group = self.arguments[0]
        text = experiments() if group == "experiment" else markdown(group)
        text = re.sub("^### ", "#" * self.options.get("level", 3) + " ", text, flags=re.M)
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True}
