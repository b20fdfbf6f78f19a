"""Sound as an array of samples: the sampling rate, fades, .wav files."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from musegen.runtime.atomic import replacing

RATE = 22_050
"""Samples per second. Frequencies up to RATE/2 are four octaves above the middle of a piano."""


def fade(n: int) -> np.ndarray:
    """A raised cosine from 0 to 1, whose slope is 0 at both ends."""
    return 0.5 - 0.5 * np.cos(np.pi * (np.arange(n) + 0.5) / n)


def write_wave(sound: np.ndarray, path: str | Path) -> None:
    """Write mono float sound in [−1, 1] as a 16-bit .wav file, atomically."""
    with replacing(path, "wb") as out, wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
