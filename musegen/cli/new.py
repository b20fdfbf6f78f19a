"""A folder with a model or a data set of one's own to start from: `musegen new model NAME`."""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal

from musegen.cli import console
from musegen.cli.usage import Section, description, help_requested, print_usage
from musegen.config.groups import config_choices
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.constraints import check_arguments
from musegen.errors import UserError
from musegen.runtime.atomic import write_text

CALL = "new model|data NAME [out=DIR]"
EXAMPLES = ("new model my_gru", "new data my_strings out=work/my_strings")
Kind = Literal["model", "data"]


@check_arguments
def new(kind: Kind, name: str, out: Path | None = None) -> list[Path]:
    """Write a folder with a small model or data set that works in every command.

    It has the Python file, the config that gives it a name on the command line, a test, and a
    README with the commands.

    - kind: `model` or `data`.
    - name: of the folder, the file and the choice, e.g. my_gru; the class is then MyGru.
    - out: the folder; by default one of this name in the current folder.
    """
    _check_name(kind, name)
    folder = out or Path(name)
    if folder.exists():
        raise UserError(f"{folder}: there is such a file or folder; choose another name or out=DIR")
    changes = {f"my_{kind}": name, f"My{kind.title()}": _class_name(name)}
    paths = []
    for template in _files(resources.files("musegen.cli") / "templates" / kind, ""):
        relative, text = template
        for old, replacement in changes.items():
            relative, text = relative.replace(old, replacement), text.replace(old, replacement)
        path = folder / relative.removesuffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
        paths.append(path)
        print(path)
    return paths


def _files(folder: Traversable, below: str) -> list[tuple[str, str]]:
    """(path below the folder, text) of every file."""
    found = []
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.is_dir():
            found += _files(item, f"{below}{item.name}/")
        else:
            found.append((below + item.name, item.read_text(encoding="utf-8")))
    return found


def _check_name(kind: Kind, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"{name}: write a name of small letters, digits and _, e.g. my_{kind}")
    if name in config_choices(kind):
        raise UserError(f"{name}: musegen has {kind}={name} already; choose another name")
    if importlib.util.find_spec(name) is not None:
        raise UserError(f"{name}: there is a Python module of this name; choose another one")


def _class_name(name: str) -> str:
    """my_gru → MyGru."""
    return "".join(part.capitalize() for part in name.split("_"))


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        if help_requested(sys.argv[1:]):
            print_usage(CALL, description(new), Section("settings", new), examples=EXAMPLES)
        words = [a for a in sys.argv[1:] if "=" not in a]
        settings = console.key_values([a for a in sys.argv[1:] if "=" in a])
        if len(words) > 2:
            raise UserError(f"cannot read {words[2]!r}: musegen {CALL}")
        settings |= dict(zip(("kind", "name"), words, strict=False))
        if not {"kind", "name"} <= set(settings):
            raise UserError(f"what, and with which name? musegen {CALL}")
        new(**check_settings(new, read_typed(new, settings), "new"))


if __name__ == "__main__":
    main()
