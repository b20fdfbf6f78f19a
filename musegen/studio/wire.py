"""Notes and arrays as JSON, with limits on what a client may send."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from musegen.codecs.midi import NOTES, tidy
from musegen.errors import UserError

MAX_NOTES = 20_000
"""More than any piece of MAESTRO has."""
MAX_SECONDS = 1800.0


def rows_of(notes: np.ndarray) -> list[list[float]]:
    """`NOTES` → [start, end, pitch, velocity] rows; times in seconds, to the microsecond."""
    columns = [np.round(notes["start"], 6), np.round(notes["end"], 6)]
    columns += [notes["pitch"].astype(int), notes["velocity"].astype(int)]
    return [list(row) for row in zip(*(c.tolist() for c in columns), strict=True)]


def notes_of(rows: Any) -> np.ndarray:
    """The inverse of `rows_of`, in the canonical order of `musegen.codecs.midi.tidy`.

    Raises `UserError` for anything else, for more than `MAX_NOTES` notes and for notes later than
    `MAX_SECONDS`.
    """
    if not isinstance(rows, list) or len(rows) > MAX_NOTES:
        raise UserError(f"notes: should be a list of at most {MAX_NOTES:,} notes")
    try:
        table = np.array(rows, np.float64).reshape(len(rows), 4)
    except (ValueError, TypeError) as e:
        raise UserError("notes: each should be [start, end, pitch, velocity]") from e
    start, end, pitch, velocity = table.T
    fine = (start >= 0) & (end > start) & (end <= MAX_SECONDS)
    fine &= (pitch >= 0) & (pitch <= 127) & (velocity >= 1) & (velocity <= 127)
    if not fine.all():  # also if a number is not finite
        raise UserError(
            f"notes: {rows[int(np.argmin(fine))]} should be [start, end, pitch, velocity] with "
            f"0 ≤ start < end ≤ {MAX_SECONDS:g} s, pitch 0 to 127 and velocity 1 to 127"
        )
    notes = np.empty(len(rows), NOTES)
    notes["start"], notes["end"], notes["pitch"], notes["velocity"] = table.T
    return tidy(notes)


def packed(values: np.ndarray) -> str:
    """Numbers in [0, 1] as bytes 0 to 255, in base64."""
    levels = np.round(255 * values.clip(0, 1)).astype(np.uint8)
    return base64.b64encode(levels.tobytes()).decode()


def unpacked(text: str, size: int) -> np.ndarray:
    """The inverse of `packed`. Raises `UserError` unless there are `size` bytes."""
    try:
        content = base64.b64decode(text, validate=True)
    except ValueError as e:
        raise UserError("visible: should be base64") from e
    if len(content) != size:
        raise UserError(f"visible: has {len(content)} bytes, but this model reads {size}")
    return np.frombuffer(content, np.uint8).astype(np.float32) / 255
