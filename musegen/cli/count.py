"""How far a char_rnn counts: `musegen count run=<run folder or checkpoint> up_to=40`."""

from __future__ import annotations

import sys
from pathlib import Path

from musegen.cli import console
from musegen.cli.usage import Section, description, help_requested, print_usage
from musegen.codecs.grammars import GRAMMARS, Grammar
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.constraints import PositiveInt, check_arguments
from musegen.errors import UserError
from musegen.metrics.capacity import capacity, counted
from musegen.models.char_rnn import CharRNN
from musegen.sharing.locate import load

CALL = "count run=<run folder or checkpoint> [show=20] [up_to=1000]"
EXAMPLES = ("count run=runs/anbn up_to=1000",)


@check_arguments
def table(run: Path, show: PositiveInt = 20, up_to: PositiveInt = 1000) -> int:
    """Print which strings of its grammar a char_rnn predicts correctly; returns the capacity.

    For each n the table has the string, the most probable symbol after each of its prefixes, and
    the number of wrong positions. The capacity is the largest N such that all n ≤ N are right.

    - run: a run folder or a checkpoint.
    - show: the table has the rows n = 1 … show.
    - up_to: the capacity is searched up to this n.
    """
    model, grammar = _load_with_grammar(run)
    print("n  target  predicted  differing  right")
    for row in counted(model, grammar, range(1, show + 1)):
        print(*row[:4], "yes" if row.right else "no", sep="  ")
    found = capacity(model, grammar, up_to)
    more = " or more (all of them)" if found == up_to else ""
    print(f"capacity {found}{more}: every n up to it is right; evaluated up to {up_to}")
    return found


def _load_with_grammar(run: Path) -> tuple[CharRNN, Grammar]:
    """The model and the grammar with its symbols. Raises `UserError` if there is none."""
    model = load(run)
    if not isinstance(model, CharRNN) or model.codec.end_class is None:
        raise UserError(f"run={run}: not a char_rnn that was trained on a grammar")
    fitting = [g for g in GRAMMARS.values() if g.symbols == model.codec.symbols]
    if not fitting:
        raise UserError(f"run={run}: no grammar has the symbols {model.codec.symbols!r}")
    return model, fitting[0]


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        if help_requested(sys.argv[1:]):
            print_usage(CALL, description(table), Section("settings", table), examples=EXAMPLES)
        settings = console.key_values(sys.argv[1:])
        if "run" not in settings:
            raise UserError(f"which run? musegen {CALL}")
        table(**check_settings(table, read_typed(table, settings), "count"))


if __name__ == "__main__":
    main()
