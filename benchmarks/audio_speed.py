"""Speed of both instruments on a minute of music in four voices, as a multiple of real time (CPU
time).

python benchmarks/audio_speed.py
"""

from __future__ import annotations

import time

import numpy as np

from musegen.codecs.midi import NOTES, tidy
from musegen.render import additive, piano
from musegen.render.audio import synthesise
from musegen.render.waveform import RATE

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
    for name, strings in (("piano", piano.strings), ("additive", additive.string)):
        for cache in ("empty", "full"):
            if cache == "empty":
                strings.cache_clear()
                piano.samples.cache_clear()
            started = time.process_time()
            sound = synthesise(notes, name)
            factor = len(sound) / RATE / (time.process_time() - started)
            print(f"{name}, {len(notes)} notes, cache {cache}: {factor:.0f} times real time")


if __name__ == "__main__":
    main()
