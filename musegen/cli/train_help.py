"""`musegen train model=… data=… --help`: every setting of what these choices compose."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_args

from omegaconf import OmegaConf

from musegen.cli.usage import HELP_FLAGS, INDENTED, WIDTH, Section, print_usage
from musegen.config.explanations import first_line
from musegen.config.groups import CONF, GROUPS, config_choices
from musegen.config.overrides import compose_config, with_search_path
from musegen.config.signatures import is_node, parameters_of, target_of
from musegen.config.tune import Tune

CALL = "train model=NAME data=NAME [experiment=NAME] [key=value …]"
SUMMARY = """Train a model on a data set, test its best weights, generate samples, write a report.

A choice is written as group=NAME, a setting as group.setting=value. -m sweeps over values with
commas between them. --help lists the settings of the model, the data and the other choices that
are in the command; `musegen list` says what there is."""
EXAMPLES = (
    "train model=lstm_midi data=mozart",
    "train model=rnn_rbm data=jsb model.hidden=200 trainer.max_epochs=20",
    "train model=rnn_rbm data=jsb --help",
    "train experiment=names18 hydra.run.dir=runs/names",
    "train resume=runs/names trainer.max_epochs=40",
    "train -m model=char_rnn data=anbn model.hidden=1,2,4",
)
GIVEN = {
    "model": ("spec", "codec"),
    "assess": ("data",),
    "sample": ("start_ND",),
    "trainer": ("logger", "callbacks", "default_root_dir"),
}
"""Parameters that are not settings: musegen passes them itself."""


def print_train_help(arguments: list[str]) -> None:
    """Print the settings of what the arguments compose, and exit with code 0."""
    overrides = [a for a in with_search_path(arguments) if a not in (*HELP_FLAGS, "-m")]
    cfg = compose_config(overrides)
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    settings = {str(key): value for key, value in plain.items()}
    summary = "\n\n".join([SUMMARY, _choices(), _run_settings()])
    print_usage(CALL, summary, *sections(settings), examples=EXAMPLES)


def sections(settings: dict[str, Any]) -> Iterator[Section]:
    """The settings of every constructor in a composed config, and of `generate` and `assess`."""
    for group in ("model", "data", "optimizer", "trainer"):
        yield from _node_sections(settings[group], group, GIVEN.get(group, ()))
    model = target_of(settings["model"], "model")
    for group in ("sample", "preview"):
        heading = f"{group}: {'after' if group == 'sample' else 'during'} training, as in generate"
        values = settings[group] or {}
        yield Section(heading, model.generate, f"{group}.", GIVEN["sample"], values)
    heading = "tune: a search for the learning rate before the training"
    yield Section(heading, Tune, "tune.", (), settings["tune"])
    heading = "assess: further test metrics"
    yield Section(heading, model.assess, "assess.", GIVEN["assess"], settings["assess"] or {})
    for group in ("callbacks", "logger"):
        for name, node in (settings.get(group) or {}).items():
            if is_node(node):
                yield from _node_sections(node, f"{group}.{name}", ("folder", "settings"))


def _node_sections(node: dict[str, Any], where: str, without: tuple[str, ...]) -> Iterator[Section]:
    """The settings of a constructor, and of the dataclasses among its parameters."""
    target = target_of(node, where)
    heading = f"{where}: {first_line(target).rstrip('.')}"
    yield Section(heading, target, f"{where}.", without, node)
    for name, hint in parameters_of(target)[1].items():
        for nested in (hint, *get_args(hint)):
            if is_dataclass(nested) and isinstance(nested, type) and name not in without:
                values = node.get(name) or {}
                title = f"{where}.{name}: {first_line(nested).rstrip('.')}"
                yield Section(title, nested, f"{where}.{name}.", (), values)


def _choices() -> str:
    rows = [f"  {group}={'|'.join(config_choices(group))}" for group in GROUPS]
    return "\n".join(["choices:", *rows])


def _run_settings() -> str:
    """The settings of conf/train.yaml itself, explained by the comments above them."""
    text = (CONF / "train.yaml").read_text(encoding="utf-8")
    lines = ["settings of the run:"]
    for found in re.finditer(r"((?:^# .*\n)+)(\w+):(.*)$", text, re.M):
        comment = " ".join(line.removeprefix("# ") for line in found[1].splitlines())
        default = found[3].strip() or "below"
        lines += [f"  {found[2]}  default {default}", *textwrap.wrap(comment, WIDTH, **INDENTED)]
    return "\n".join(lines)
