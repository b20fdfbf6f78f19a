"""What there is: `musegen list [what=models|data|experiments|runs|pretrained]`."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Literal

from musegen.cli import console
from musegen.cli.usage import Section, description, help_requested, print_usage
from musegen.config import listing
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.constraints import check_arguments
from musegen.sharing.folder import read_config
from musegen.sharing.locate import PRETRAINED, pretrained

CALL = "list [what=models|data|experiments|runs|pretrained] [runs=DIR]"
EXAMPLES = ("list", "list what=data", "list what=runs runs=runs/sweeps")
WIDTH = 100
HEADINGS = {
    "models": "Models: musegen train model=NAME",
    "data": "Data sets: musegen train data=NAME",
    "experiments": "Experiments: musegen train experiment=NAME",
    "runs": "Runs: musegen generate run=FOLDER",
    "pretrained": "Pretrained models: musegen generate run=NAME",
}
What = Literal["models", "data", "experiments", "runs", "pretrained"]


@check_arguments
def show(what: What | None = None, runs: Path = Path("runs")) -> None:
    """Print the models, data sets, experiments, runs and pretrained models that there are.

    - what: only this part; null prints all of them.
    - runs: the folder in which runs are searched.
    """
    sections = {
        "models": listing.models,
        "data": listing.data_sets,
        "experiments": listing.experiments,
        "runs": lambda: listing.runs(runs),
        "pretrained": pretrained_models,
    }
    for name, entries in sections.items():
        if what in (None, name):
            lines = [_text(entry) for entry in entries()] or ["  none"]
            print("\n".join([HEADINGS[name], *lines]) + "\n")


def pretrained_models() -> list[listing.Entry]:
    """The pretrained models of the package, with the metrics of their cards."""
    entries = []
    for name in pretrained():
        config = read_config(PRETRAINED / name)
        data = config["data"].get("name") or config["data"]["_target_"].rpartition(".")[2]
        details = listing.first_metrics(config.get("metrics", {}))
        entries.append(listing.Entry(name, f"{config['model_type']} on {data}", details))
    return entries


def _text(entry: listing.Entry) -> str:
    """An entry as lines of at most `WIDTH` characters."""
    lines = [f"  {entry.name}"]
    for line in (entry.text, *entry.details):
        lines += textwrap.wrap(line, WIDTH, initial_indent=6 * " ", subsequent_indent=8 * " ",
                               break_long_words=False, break_on_hyphens=False)  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        if help_requested(sys.argv[1:]):
            print_usage(CALL, description(show), Section("settings", show), examples=EXAMPLES)
        settings = console.key_values(sys.argv[1:])
        show(**check_settings(show, read_typed(show, settings), "list"))


if __name__ == "__main__":
    main()
