"""A run's page: `musegen report run=<run folder> [run=<another>] [out=FILE]`.

The page of one run folder is written into it again; several runs are put side by side on one
page. The page is one file that opens from disk and needs no network.
"""

from __future__ import annotations

import sys
from pathlib import Path

from musegen.cli import console
from musegen.errors import UserError
from musegen.render.report import write_page


def main() -> None:
    console.quiet()
    with console.one_line_errors():
        settings = [argument.partition("=") for argument in sys.argv[1:]]
        runs = [Path(value) for key, _, value in settings if key == "run"]
        outs = [Path(value) for key, _, value in settings if key == "out"]
        if not runs or len(outs) > 1 or len(runs) + len(outs) < len(settings):
            raise UserError(
                "which runs? musegen report run=<run folder> [run=<another>] [out=FILE]"
            )
        print(write_page(runs, *outs))


if __name__ == "__main__":
    main()
