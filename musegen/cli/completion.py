"""Completion of commands, choices and settings in a shell: `musegen completion shell=bash`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable
from typing import Any, Literal, get_args, get_origin

from omegaconf import OmegaConf

from musegen.cli import console
from musegen.cli.train_help import sections
from musegen.cli.usage import Section, description, help_requested, print_usage
from musegen.config.groups import GROUPS, config_choices, top_level_keys
from musegen.config.overrides import compose_config
from musegen.config.signatures import parameters_of
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.constraints import check_arguments
from musegen.errors import UserError

CALL = "completion shell=bash|zsh|fish"
EXAMPLES = (
    "completion shell=bash > ~/.local/share/bash-completion/completions/musegen",
    "completion shell=zsh > ~/.zsh/completions/_musegen",
    "completion shell=fish > ~/.config/fish/completions/musegen.fish",
)
FUNCTIONS = {
    "generate": ("generate", "generate"),
    "evaluate": ("evaluate", "evaluate"),
    "report": ("report", "report"),
    "list": ("list", "show"),
    "export": ("export", "export"),
    "publish": ("publish", "publish"),
    "new": ("new", "new"),
    "studio": ("studio", "serve"),
    "critic": ("critic", "train"),
    "dissect": ("dissect", "write"),
    "count": ("count", "table"),
    "completion": ("completion", "completion"),
}
"""The function whose parameters are the settings of a command: (module of musegen.cli, name)."""
SWEEP = ("trials=", "out=", "prune=", "seed=")
"""Settings of `musegen sweep` besides those of train. Its module needs an optional package."""
Shell = Literal["bash", "zsh", "fish"]


@check_arguments
def completion(shell: Shell) -> None:
    """Print the completion script of a shell: commands, choices and the names of settings.

    Write it again after an update, since it has the settings of this version.

    - shell: `bash`, `zsh` or `fish`.
    """
    print(SCRIPTS[shell](words()), end="")


def words() -> dict[str, list[str]]:
    """The words that can follow each command."""
    train = train_words()
    found = {"train": train, "sweep": sorted({*train, *SWEEP})}
    for command, (module, name) in FUNCTIONS.items():
        function = getattr(importlib.import_module(f"musegen.cli.{module}"), name)
        found[command] = sorted({w for words in _typed(function) for w in words})
    generate = [s for s in train if s.startswith("sample.")]
    found["generate"] = sorted({*found["generate"], *(s.removeprefix("sample.") for s in generate)})
    return {command: [*rest, "--help"] for command, rest in found.items()}


def train_words() -> list[str]:
    """Every choice, and the settings of every model, data set and other choice."""
    found = {f"{group}={name}" for group in GROUPS for name in config_choices(group)}
    found |= {f"{key}=" for key in [*top_level_keys(), "hydra.run.dir"]}
    for group in ("model", "data"):
        for name in config_choices(group):
            cfg = OmegaConf.to_container(compose_config([f"{group}={name}"]), resolve=False)
            assert isinstance(cfg, dict)
            for section in sections({str(k): v for k, v in cfg.items()}):
                names = set(parameters_of(section.function)[0]) - set(section.without)
                found |= {f"{section.prefix}{name}=" for name in names}
    return sorted(found)


def _typed(function: Callable[..., Any]) -> Iterable[list[str]]:
    """For each setting its choices, or its name with `=`."""
    parameters, hints = parameters_of(function)
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD or name == "overrides":
            continue
        hint = hints.get(name)
        literals = [h for h in (hint, *get_args(hint)) if get_origin(h) is Literal]
        choices = [str(value) for h in literals for value in get_args(h)]
        yield [f"{name}={choice}" for choice in choices] or [f"{name}="]


def bash(words: dict[str, list[str]]) -> str:
    """The script for bash. Where bash splits words at `=`, it is given only what is after it."""
    cases = "\n".join(f"    {c}) words={_quoted(' '.join(w))} ;;" for c, w in words.items())
    return f"""# musegen completion shell=bash
_musegen() {{
  local line="${{COMP_LINE:0:COMP_POINT}}" words="" current before
  current="${{line##* }}"
  if (( COMP_CWORD == 1 )); then
    words={_quoted(" ".join(words))}
  else
    case "${{COMP_WORDS[1]}}" in
{cases}
    esac
  fi
  case "$current" in
    run=*|out=*|*.root=*|*.path=*|resume=*|hydra.run.dir=*|*prime=*)
      COMPREPLY=($(compgen -f -- "${{current#*=}}")); return ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  before="${{current%"${{current##*=}}"}}"
  if [[ $COMP_WORDBREAKS == *=* && -n $before ]]; then
    COMPREPLY=("${{COMPREPLY[@]#"$before"}}")
  fi
}}
complete -o nospace -o filenames -F _musegen musegen
"""


def zsh(words: dict[str, list[str]]) -> str:
    """The script for zsh."""
    cases = "\n".join(f"      {c}) candidates=({' '.join(w)}) ;;" for c, w in words.items())
    return f"""#compdef musegen
# musegen completion shell=zsh
_musegen() {{
  local -a candidates
  if (( CURRENT == 2 )); then
    candidates=({" ".join(words)})
    compadd -- $candidates
    return
  fi
  case $PREFIX in
    run=*|out=*|*.root=*|*.path=*|resume=*|hydra.run.dir=*|*prime=*) compset -P '*='; _files ;;
    *) case $words[2] in
{cases}
      esac
      compadd -S '' -- $candidates ;;
  esac
}}
# Autoloaded from a folder in $fpath, this file is the function; sourced, it declares it.
if [[ $funcstack[1] == _musegen ]]; then _musegen "$@"; else compdef _musegen musegen; fi
"""


def fish(words: dict[str, list[str]]) -> str:
    """The script for fish, which completes paths after `=` itself."""
    lines = [
        "# musegen completion shell=fish",
        f"complete -c musegen -n __fish_use_subcommand -f -a {_quoted(' '.join(words))}",
    ]
    for command, candidates in words.items():
        condition = _quoted(f"__fish_seen_subcommand_from {command}")
        lines.append(f"complete -c musegen -n {condition} -a {_quoted(' '.join(candidates))}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return f"'{text}'"


SCRIPTS: dict[Shell, Callable[[dict[str, list[str]]], str]] = {
    "bash": bash,
    "zsh": zsh,
    "fish": fish,
}


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        if help_requested(sys.argv[1:]):
            settings = Section("settings", completion)
            print_usage(CALL, description(completion), settings, examples=EXAMPLES)
        given = console.key_values(sys.argv[1:])
        if "shell" not in given:
            raise UserError(f"for which shell? musegen {CALL}")
        completion(**check_settings(completion, read_typed(completion, given), "completion"))


if __name__ == "__main__":
    main()
