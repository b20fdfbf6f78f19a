"""Settings and values that have a new name; the old one is refused with a line that says so."""

from __future__ import annotations

from musegen.errors import UserError

RENAMED = {
    "data.loss_on": "data.loss_on (every is now all)",
}


def renamed_error(where: str, key: str) -> UserError | None:
    """The error for a setting that was renamed; None for any other key."""
    new = RENAMED.get(f"{where}.{key}")
    return UserError(f"{where}.{key} was renamed: write {new}") if new else None
