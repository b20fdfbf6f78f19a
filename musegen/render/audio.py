"""Notes → audio: the tones of an instrument, mixed; or a SoundFont."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

import musegen.render.additive as additive
import musegen.render.piano as piano
import musegen.render.soundfont as soundfont
from musegen.codecs.midi import NOTES
from musegen.config.sound import sound_font
from musegen.render.waveform import RATE, fade

RELEASE = 0.15
"""Seconds of the fade at a note's end, about as long as a damper takes."""
PEAK = 0.9


INSTRUMENTS = {"piano": piano, "additive": additive}


def synthesise(notes: np.ndarray, sound: str = "piano") -> np.ndarray:
    """`NOTES` → mono float32 in [−1, 1] at `RATE`, normalised to a peak of 0.9 unless silent.

    `sound` is `piano`, `additive` or a SoundFont, as `check_sound` returns it.
    """
    font = sound_font(sound)
    mixed = soundfont.play(notes, font) if font else mix(notes, INSTRUMENTS[sound])
    peak = np.abs(mixed).max(initial=0.0)
    return mixed * np.float32(PEAK / peak) if peak > 0 else mixed


def check_plays(sound: str) -> None:
    """Raise `UserError` for a SoundFont that cannot be read or does not have the program."""
    synthesise(np.zeros(0, NOTES), sound)


def mix(notes: np.ndarray, instrument: ModuleType) -> np.ndarray:
    """The sum of the instrument's tones, float32.

    A note sounds from its start to its end plus a release of 150 ms, or until its string is
    silent.
    """
    tail = int(RELEASE * RATE)
    last = notes["end"].max(initial=0.0)
    mixed = np.zeros(int(last * RATE) + 2 * tail, np.float32)
    fade_out = fade(tail)[::-1].astype(np.float32)
    for note in notes:
        first = int(note["start"] * RATE)
        length = int((note["end"] - note["start"]) * RATE)
        tone = instrument.tone(int(note["pitch"]), int(note["velocity"]), length + tail)
        tone[-tail:] *= fade_out
        mixed[first : first + len(tone)] += tone
    return mixed


def for_page(instrument: str) -> dict[str, Any]:
    """What the page's player needs to make the same sound."""
    return {
        "rate": RATE,
        "release": RELEASE,
        "peak": PEAK,
        **INSTRUMENTS[instrument].for_page(),
    }
