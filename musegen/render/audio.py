"""Notes → audio, by additive synthesis: the decaying partials of a struck string."""

from __future__ import annotations

import wave
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from musegen.runtime.atomic import replacing

RATE = 22_050
"""Samples per second. Frequencies up to RATE/2 are four octaves above the middle of a piano."""
ATTACK, RELEASE = 0.006, 0.08
"""Seconds of the fades at a note's start and end, long enough to avoid clicks."""
RING = 8.0
"""Maximum length of a note in seconds. By then its string is silent."""
PARTIALS = 8


def frequency(pitch: int) -> float:
    """Equal temperament, A4 (MIDI 69) = 440 Hz."""
    return 440.0 * 2.0 ** ((pitch - 69) / 12)


@lru_cache(maxsize=128)
def _string(pitch: int) -> np.ndarray:
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
    sound[: int(ATTACK * RATE)] *= _fade(int(ATTACK * RATE))
    return (sound / max(np.abs(sound).max(), 1e-9)).astype(np.float32)


def _fade(n: int) -> np.ndarray:
    """A raised cosine from 0 to 1, whose slope is 0 at both ends."""
    return 0.5 - 0.5 * np.cos(np.pi * (np.arange(n) + 0.5) / n)


def synthesise(notes: np.ndarray) -> np.ndarray:
    """`NOTES` → mono float32 in [−1, 1] at `RATE`, normalised to a peak of 0.9 unless silent.

    A note sounds from its start to its end plus a release of 80 ms. Its amplitude is proportional
    to the square of the velocity.
    """
    tail = int(RELEASE * RATE)
    last = notes["end"].max(initial=0.0)
    sound = np.zeros(int(last * RATE) + 2 * tail, np.float32)
    fade_out = _fade(tail)[::-1].astype(np.float32)
    for note in notes:
        first = int(note["start"] * RATE)
        length = min(int((note["end"] - note["start"]) * RATE), int(RING * RATE) - tail)
        tone = _string(int(note["pitch"]))[: length + tail] * (note["velocity"] / 127.0) ** 2
        tone[length:] *= fade_out
        sound[first : first + len(tone)] += tone
    peak = np.abs(sound).max(initial=0.0)
    return sound * np.float32(0.9 / peak) if peak > 0 else sound


def write_wave(sound: np.ndarray, path: str | Path) -> None:
    """Write mono float sound in [−1, 1] as a 16-bit .wav file, atomically."""
    with replacing(path, "wb") as out, wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
