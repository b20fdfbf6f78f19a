"""Errors that a user can fix. Any other exception is a bug in musegen and keeps its traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Input that the user can fix. The message says what is wrong, where, and what to do.

    The commands print it as one line and exit with a non-zero code.
    """


class PairingError(UserError):
    """A model and a data set that do not fit together."""


def unknown_name(where: str, name: str, known: Iterable[str], what: str) -> UserError:
    """The error for a misspelt name: it lists similar valid names, or all if none is similar."""
    known = sorted(set(known) - {"self"})
    matches = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if matches:
        return UserError(f"{where}: no such {what}; did you mean {' or '.join(matches)}?")
    return UserError(f"{where}: no such {what}; there are {', '.join(known)}")
