"""What can be said of a piece by counting its notes."""

from __future__ import annotations

import numpy as np


def degenerate(notes: np.ndarray) -> str | None:
    """Why a generated piece is no music, in a few words; None if nothing is wrong.

    Reported are silence, one pitch only, one pitch nine times out of ten, and stretches of
    silence that fill more than half of the piece.
    """
    if len(notes) == 0:
        return "silence: not a single note"
    share = np.bincount(notes["pitch"]).max() / len(notes)
    commonest = int(np.bincount(notes["pitch"]).argmax())
    if len(notes) >= 8 and share > 0.9:
        return f"one note over and over: MIDI {commonest} is {share:.0%} of {len(notes)} notes"
    if len(notes) < 8:
        return f"only {len(notes)} notes"
    sounded = _covered(notes)
    total = float(notes["end"].max())
    if sounded < 0.5 * total:
        return f"mostly silence: {total - sounded:.0f} s of {total:.0f} s"
    return None


def _covered(notes: np.ndarray) -> float:
    """Seconds during which at least one note sounds."""
    reached = np.maximum.accumulate(np.r_[0.0, notes["end"][:-1]])
    return float(np.maximum(0.0, notes["end"] - np.maximum(notes["start"], reached)).sum())
