"""The command line of this program, for messages that tell the user what to type."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def train_command(*arguments: str) -> str:
    """The command that trains with these arguments, quoted for a shell."""
    in_clone = Path(sys.argv[0]).name == "train.py"
    return shlex.join([*(["python", "train.py"] if in_clone else ["musegen", "train"]), *arguments])
