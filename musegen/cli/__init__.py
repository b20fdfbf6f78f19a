"""The `musegen` command and its subcommands, one module each."""

import os

from musegen.runtime.threads import switch_off_dynamic_threads

switch_off_dynamic_threads(os.environ)  # before any subcommand imports torch
