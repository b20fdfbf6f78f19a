"""A counting net's table: `python -m musegen.counting run=<run folder or checkpoint> up_to=40`.

For each n: the grammar's string, the likeliest symbol after each of its prefixes, and how many
positions differ; at the end the capacity, the largest N with every n ≤ N right.
"""

from __future__ import annotations

import sys
from pathlib import Path

from musegen import build, cli
from musegen.codecs.grammars import GRAMMARS
from musegen.contracts import UserError
from musegen.evaluate import find_checkpoint
from musegen.metrics.counting import capacity, counted
from musegen.models import load_model
from musegen.models.char_rnn import CharRNN


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
    cli.quiet()
    with cli.one_line_errors():
        settings = cli.key_values(sys.argv[1:])
        if "run" not in settings:
            raise UserError(
                "which run? python -m musegen.counting run=<run folder or checkpoint> "
                "[show=20] [up_to=1000]"
            )
        table(**build.checked(table, settings, "counting"))


if __name__ == "__main__":
    main()
