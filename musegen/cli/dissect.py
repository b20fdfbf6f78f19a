"""What a char_rnn computes while it reads one string:
`musegen dissect run=<run folder or checkpoint> string=00001111`."""

from __future__ import annotations

import sys
from pathlib import Path

from musegen.cli import console
from musegen.cli.usage import Section, description, help_requested, print_usage
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.errors import UserError
from musegen.models.char_rnn import CharRNN
from musegen.models.dissection import dissect
from musegen.render.dissection_plots import draw
from musegen.runtime.atomic import write_json
from musegen.sharing.locate import load, output_folder

CALL = "dissect run=<run folder or checkpoint> string=00001111 [label=NAME] [out=DIR]"
EXAMPLES = (
    "dissect run=runs/anbn string=00001111",
    "dissect run=runs/names string=Tanaka label=Japanese",
)


def write(run: Path, string: str, label: str | None = None, out: Path | None = None) -> list[Path]:
    """Write pictures of the network's states and a JSON file of their numbers.

    - run: a run folder or a checkpoint of a char_rnn.
    - string: the text that the network reads.
    - label: the label of the text, for a model with labels.
    - out: the folder of the files; by default dissection/ in the run folder.
    """
    model = load(run)
    if not isinstance(model, CharRNN):
        raise UserError(f"run={run}: a checkpoint of {model.name}; only char_rnn can be dissected")
    numbers = dissect(model, string, label)
    folder = out or output_folder(run, "dissection")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "dissection.json"
    write_json(target, numbers)
    paths = [*draw(numbers, folder), target]
    for path in paths:
        print(path)
    return paths


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        if help_requested(sys.argv[1:]):
            print_usage(CALL, description(write), Section("settings", write), examples=EXAMPLES)
        settings = console.key_values(sys.argv[1:])
        if not {"run", "string"} <= set(settings):
            raise UserError(f"which run, and which string? musegen {CALL}")
        write(**check_settings(write, read_typed(write, settings), "dissect"))


if __name__ == "__main__":
    main()
