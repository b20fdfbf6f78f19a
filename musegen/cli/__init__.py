"""The `musegen` command and its subcommands, one module each."""

import sys

from musegen.cli.main import catch_interrupts

if sys.argv[:1] == ["-m"]:  # `python -m musegen.cli.generate`, before the imports of that module
    catch_interrupts()
