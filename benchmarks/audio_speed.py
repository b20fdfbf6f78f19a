"""Speed of the synthesiser on a minute of music in four voices, as a multiple of real time.

python benchmarks/audio_speed.py
"""

from __future__ import annotations

import time

import numpy as np

from musegen.codecs.midi import NOTES, tidy
from musegen.render.audio import RATE, _string, synthesise

SECONDS = 60


def four_voices() -> np.ndarray:
    """Quarter notes in bass and tenor, eighth notes in alto and soprano, at 120 beats/minute."""
    rng = np.random.default_rng(0)
    rows = [
        (t, t + step, low + rng.integers(0, 13), 80)
        for low, step in ((38, 0.5), (50, 0.5), (57, 0.25), (64, 0.25))
        for t in np.arange(0, SECONDS, step)
    ]
    return tidy(np.array(rows, NOTES))


def main() -> None:
    notes = four_voices()
    for cache in ("empty", "full"):
        if cache == "empty":
            _string.cache_clear()
        started = time.process_time()
        sound = synthesise(notes)
        factor = len(sound) / RATE / (time.process_time() - started)
        print(f"{len(notes)} notes, cache {cache}: {factor:.0f} times real time (CPU time)")


if __name__ == "__main__":
    main()
