"""A counting net's table: `musegen count run=<run folder or checkpoint> up_to=40`.

For each n: the grammar's string, the likeliest symbol after each of its prefixes, and how many
positions differ; at the end the capacity, the largest N with every n ≤ N right.
"""

from __future__ import annotations

import sys
from pathlib import Path

from musegen.cli import console
from musegen.codecs.grammars import GRAMMARS
from musegen.config.validation import check_settings
from musegen.errors import UserError
from musegen.metrics.capacity import capacity, counted
from musegen.models import load_model
from musegen.models.char_rnn import CharRNN
from musegen.training.checkpoint_files import find_checkpoint


def table(run: Path, show: int = 20, up_to: int = 1000) -> int:
    """Print the table of n = 1 … `show`, and the capacity up to `up_to`, which is returned."""
    if min(show, up_to) < 1:
        raise UserError(f"show={show} and up_to={up_to} must be at least 1")
    model = load_model(find_checkpoint(run))
    if not isinstance(model, CharRNN) or model.codec.end_class is None:
        raise UserError(f"run={run}: not a char_rnn that was taught a grammar")
    fitting = [g for g in GRAMMARS.values() if g.symbols == model.codec.symbols]
    if not fitting:
        raise UserError(f"run={run}: its symbols are {model.codec.symbols!r}, of no grammar")
    language = fitting[0]
    print("n  target  predicted  differing  right")
    for row in counted(model, language, range(1, show + 1)):
        print(*row[:4], "yes" if row.right else "no", sep="  ")
    found = capacity(model, language, up_to)
    more = " or more (all of them)" if found == up_to else ""
    print(f"capacity {found}{more}: every n up to it is right; evaluated up to {up_to}")
    return found


def main() -> None:
    console.quiet()
    with console.one_line_errors():
        settings = console.key_values(sys.argv[1:])
        if "run" not in settings:
            raise UserError(
                "which run? musegen count run=<run folder or checkpoint> [show=20] [up_to=1000]"
            )
        table(**check_settings(table, settings, "counting"))


if __name__ == "__main__":
    main()
