"""Code of the user outside the package: a model or a data module of one's own."""

from __future__ import annotations

import os
import sys


def allow_current_folder() -> None:
    """Let modules in the current folder be imported, as `python file.py` there would.

    The folder of the command `musegen` is on the import path instead. It comes last, so that no
    file in it hides an installed module.
    """
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)
