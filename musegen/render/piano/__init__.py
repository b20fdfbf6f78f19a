"""Tones of the Salamander Grand Piano: one recorded note per minor third, from A0 to A7.

`piano.ogg` has all samples one after the other, in tune (equal temperament, A4 = 440 Hz);
`piano.json` has [MIDI pitch, first sample, number of samples] of each. `LICENSE` has the credit,
and `benchmarks/piano_samples.py` made the files. The page of a report plays the same samples
(`templates/piano.js`).
"""

from __future__ import annotations

import base64
import json
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from scipy.signal import lfilter

from musegen.render.additive import frequency
from musegen.render.waveform import RATE, fade

FOLDER = Path(__file__).parent
ATTACK = 0.002
"""Seconds of the fade at a note's start: the recorded onset without a click."""
DARK_HZ, DARK_PARTIAL = 300.0, 1.5
"""The softest note passes a low-pass filter at DARK_HZ plus DARK_PARTIAL times its frequency."""


def tone(pitch: int, velocity: int, length: int) -> np.ndarray:
    """Up to `length` samples of a note; fewer if its string is silent before.

    As on a piano, a soft note is also darker. With b = velocity/127, a note is
    b² (b · bright + (1 − b) · dark).
    """
    bright, dark = strings(pitch)
    b = velocity / 127.0
    return np.float32(b**3) * bright[:length] + np.float32(b * b * (1 - b)) * dark[:length]


def for_page() -> dict[str, Any]:
    """The samples, in base64, and the constants of `templates/piano.js`."""
    return {
        "attack": ATTACK,
        "dark_hz": DARK_HZ,
        "dark_partial": DARK_PARTIAL,
        "table": json.loads((FOLDER / "piano.json").read_text()),
        "ogg": base64.b64encode((FOLDER / "piano.ogg").read_bytes()).decode(),
    }


@cache
def samples() -> list[tuple[int, np.ndarray]]:
    """(MIDI pitch, float64 sound at `RATE`) of each recorded note, by pitch."""
    sound, rate = soundfile.read(FOLDER / "piano.ogg")
    assert rate == RATE
    table = json.loads((FOLDER / "piano.json").read_text())
    return [(pitch, sound[first : first + length]) for pitch, first, length in table]


@lru_cache(maxsize=128)
def strings(pitch: int) -> tuple[np.ndarray, np.ndarray]:
    """The bright and the dark sound of a key, float32: the nearest sample, and low-passed."""
    recorded, sound = min(samples(), key=lambda sample: abs(sample[0] - pitch))
    bright = faster(sound, 2.0 ** ((pitch - recorded) / 12))
    bright[: int(ATTACK * RATE)] *= fade(int(ATTACK * RATE))
    cutoff = DARK_HZ + DARK_PARTIAL * frequency(pitch)
    share = 1 - np.exp(-2 * np.pi * cutoff / RATE)
    dark = lfilter([share], [1.0, share - 1], bright)
    return bright.astype(np.float32), dark.astype(np.float32)


def faster(sound: np.ndarray, speed: float) -> np.ndarray:
    """The sound at `speed` times its own, by Catmull-Rom splines through its samples."""
    if speed == 1:
        return sound.copy()
    places = 1 + np.arange(int((len(sound) - 3) / speed)) * speed
    i = places.astype(int)
    t = places - i
    a, b, c, d = sound[i - 1], sound[i], sound[i + 1], sound[i + 2]
    return b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
