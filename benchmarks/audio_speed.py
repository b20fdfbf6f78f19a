"""How many times faster than real time a minute in four voices becomes a wave, on one thread.

python benchmarks/audio_speed.py
"""

from __future__ import annotations

import time

import numpy as np

from musegen.codecs.midi import NOTES, tidy
from musegen.render.audio import RATE, _string, synthesise

SECONDS = 60


def four_voices() -> np.ndarray:
    """Crotchets in bass and tenor, quavers in alto and soprano, at 120 to the minute."""
    rng = np.random.default_rng(0)
    rows = [
        (t, t + step, low + rng.integers(0, 13), 80)
        for low, step in ((38, 0.5), (50, 0.5), (57, 0.25), (64, 0.25))
        for t in np.arange(0, SECONDS, step)
    ]
    return tidy(np.array(rows, NOTES))


def main() -> None:
    notes = four_voices()
    for strings in ("made anew", "at hand"):
        if strings == "made anew":
            _string.cache_clear()
        began = time.process_time()
        sound = synthesise(notes)
        times = len(sound) / RATE / (time.process_time() - began)
        print(f"{len(notes)} notes, strings {strings}: {times:.0f} times real time (CPU time)")


if __name__ == "__main__":
    main()
