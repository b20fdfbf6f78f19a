"""The page of a run: `musegen report run=<run folder> [run=<another>] [out=FILE]`."""

from __future__ import annotations

import sys
from pathlib import Path

from musegen.cli import console
from musegen.cli.usage import Section, description, help_requested, print_usage
from musegen.errors import UserError
from musegen.render.report import write_page

CALL = "report run=<run folder> [run=<another>] [out=FILE]"
EXAMPLES = (
    "report run=runs/mozart",
    "report run=runs/one run=runs/two out=both.html",
)


def report(run: list[Path], out: Path | None = None) -> Path:
    """Write the page of one run, or of several runs side by side; returns its path.

    - run: a run folder; write it several times for several runs.
    - out: the HTML file, which opens from disk and needs no network; by default report.html in
      the folder of a single run, or in the current folder for several.
    """
    return write_page(run, out)


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        if help_requested(sys.argv[1:]):
            print_usage(CALL, description(report), Section("settings", report), examples=EXAMPLES)
        settings = [argument.partition("=") for argument in sys.argv[1:]]
        runs = [Path(value).expanduser() for key, _, value in settings if key == "run"]
        outs = [Path(value).expanduser() for key, _, value in settings if key == "out"]
        if not runs or len(outs) > 1 or len(runs) + len(outs) < len(settings):
            raise UserError(f"which runs? musegen {CALL}")
        print(report(runs, *outs))


if __name__ == "__main__":
    main()
