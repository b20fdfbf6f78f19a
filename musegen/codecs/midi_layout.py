"""What a MIDI file says besides its notes: ticks, tempo, time signature, key and instrument."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

TICKS_PER_BEAT = 480
"""In files whose notes are on a grid of beats. Most grids divide it."""
GM_FAMILIES = (
    "Piano", "Chromatic percussion", "Organ", "Guitar", "Bass", "Strings", "Ensemble", "Brass",
    "Reed", "Pipe", "Synth lead", "Synth pad", "Synth effects", "Ethnic", "Percussive",
    "Sound effects",
)  # fmt: skip
"""The instruments of General MIDI, eight programs each."""


@dataclass(frozen=True)
class MidiLayout:
    """How notes in seconds are written to a file.

    - seconds_per_beat, ticks_per_beat: the tempo, and the resolution of a quarter note. By default
      a tick is one millisecond.
    - time_signature: numerator and denominator; key: such as C, Am or B♭ as Bb. None leaves them
      out.
    - program: the instrument in General MIDI, 0 (grand piano) to 127.
    """

    seconds_per_beat: float = 0.5
    ticks_per_beat: int = 500
    time_signature: tuple[int, int] | None = None
    key: str | None = None
    program: int = 0

    @property
    def track_name(self) -> str:
        """The family of its instrument."""
        return GM_FAMILIES[self.program // 8]

    def ticks(self, seconds: np.ndarray) -> np.ndarray:
        """The nearest tick of each time."""
        return np.round(seconds / self.seconds_per_beat * self.ticks_per_beat).astype(np.int64)


class LaidOutNotes(np.ndarray):
    """A `NOTES` array that knows its layout. Its parts and copies know it, too."""

    layout: MidiLayout = MidiLayout()

    def __array_finalize__(self, source: Any) -> None:
        self.layout = getattr(source, "layout", MidiLayout())


def with_layout(notes: np.ndarray, layout: MidiLayout) -> LaidOutNotes:
    """The same notes, to be written with this layout."""
    result = notes.view(LaidOutNotes)
    result.layout = layout
    return result


def layout_of(notes: np.ndarray) -> MidiLayout:
    """The layout of the notes; the default for an ordinary array."""
    return notes.layout if isinstance(notes, LaidOutNotes) else MidiLayout()


def ticks_for(parts: int) -> int:
    """Ticks per beat that are divided exactly by `parts` of a beat: 480, or somewhat more."""
    return -(-TICKS_PER_BEAT // parts) * parts
