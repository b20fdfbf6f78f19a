"""Tones by additive synthesis: the decaying partials of a struck string."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.signal import lfilter

from musegen.render.waveform import RATE, fade

ATTACK = 0.006
"""Seconds of the fade at a note's start, long enough to avoid a click."""
RING = 8.0
"""Maximum length of a note in seconds. By then its string is silent."""
PARTIALS = 8


def for_page() -> dict[str, float]:
    """The constants of `templates/additive.js`."""
    return {"attack": ATTACK, "ring": RING, "partials": PARTIALS}


def frequency(pitch: int) -> float:
    """Equal temperament, A4 (MIDI 69) = 440 Hz."""
    return 440.0 * 2.0 ** ((pitch - 69) / 12)


def tone(pitch: int, velocity: int, length: int) -> np.ndarray:
    """Up to `length` samples of a note. Its amplitude is proportional to the squared velocity."""
    return string(pitch)[:length] * np.float32((velocity / 127.0) ** 2)


@lru_cache(maxsize=128)
def string(pitch: int) -> np.ndarray:
    """The sound of a string that is struck at time 0, float32, with a peak of about 1.

    Partial k has amplitude 1/k. Higher partials decay faster, and partials near or above RATE/2
    are left out. With r = exp(−decay/RATE) and w the angle per sample, a partial is the impulse
    response of a two-pole filter, which takes a few nanoseconds per sample:

        x_i = r^i sin(w i) / k = 2 r cos(w) x_{i−1} − r² x_{i−2}
    """
    f0 = frequency(pitch)
    sound = np.zeros(int(RING * RATE))
    impulse = np.zeros_like(sound)
    impulse[0] = 1.0
    for k in range(1, PARTIALS + 1):
        if k * f0 < RATE / 2 * 0.9:
            r = np.exp(-(0.6 + 0.4 * k) * (0.5 + f0 / 600) / RATE)
            w = 2 * np.pi * k * f0 / RATE
            sound += lfilter([0.0, r * np.sin(w) / k], [1.0, -2 * r * np.cos(w), r * r], impulse)
    sound[: int(ATTACK * RATE)] *= fade(int(ATTACK * RATE))
    return (sound / max(np.abs(sound).max(), 1e-9)).astype(np.float32)
