"""The `musegen` command and its subcommands, one module each."""

import os
import sys

from musegen.cli.main import catch_interrupts
from musegen.runtime.threads import switch_off_dynamic_threads

if sys.argv[:1] == ["-m"]:  # `python -m musegen.cli.generate`, before the imports of that module
    catch_interrupts()
switch_off_dynamic_threads(os.environ)  # before any subcommand imports torch
