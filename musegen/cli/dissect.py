"""A look inside a `char_rnn`: `musegen dissect run=<run folder or checkpoint> string=00001111`.

Reads one string and writes pictures and a JSON of their numbers (`musegen.models.dissection`).
"""

from __future__ import annotations

import sys
from pathlib import Path

from musegen.cli import console
from musegen.config.validation import check_settings
from musegen.errors import UserError
from musegen.models import load_model
from musegen.models.char_rnn import CharRNN
from musegen.models.dissection import dissect
from musegen.render.dissection import draw
from musegen.runtime.atomic import write_json
from musegen.training.checkpoint_files import find_checkpoint


def write(run: Path, string: str, label: str | None = None, out: Path | None = None) -> list[Path]:
    """Dissect a run's net; pictures and JSON go to `out`, or to dissection/ in the run folder."""
    model = load_model(find_checkpoint(run))
    if not isinstance(model, CharRNN):
        raise UserError(f"run={run}: a checkpoint of {model.name}, but char_rnn is dissected")
    numbers = dissect(model, string, label)
    folder = out or (run if run.is_dir() else run.parent) / "dissection"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "dissection.json"
    write_json(target, numbers)
    paths = [*draw(numbers, folder), target]
    for path in paths:
        print(path)
    return paths


def main() -> None:
    console.quiet()
    with console.one_line_errors():
        # A string of digits is a string: as YAML, 00001111 would be the number 585.
        strings = [a.removeprefix("string=") for a in sys.argv[1:] if a.startswith("string=")]
        settings = console.key_values([a for a in sys.argv[1:] if not a.startswith("string=")])
        if "run" not in settings or len(strings) != 1:
            raise UserError(
                "which run, and what to read? musegen dissect run=<run folder or "
                "checkpoint> string=00001111 [label=NAME] [out=DIR]"
            )
        write(**check_settings(write, {**settings, "string": strings[0]}, "dissect"))


if __name__ == "__main__":
    main()
