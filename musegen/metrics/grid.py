"""Whether a piece keeps its beat and its bar: onsets on the best grid, and within the best bar."""

from __future__ import annotations

import numpy as np

SIXTEENTHS = (0.125, 0.25)
"""Seconds. The sixteenth notes of 60 to 120 quarter notes a minute: one octave, so that a grid and
one that is twice as fine are not both tried."""
TOLERANCE = 0.125
"""Of a step, to either side. A third of random onsets are on the best grid of a minute."""
RESOLUTION = 0.005
"""Seconds. Onsets are rounded to it when the steps of possible grids are looked for."""
BARS = (3, 4, 6, 8)
"""Beats of the bars that are tried."""
PEAKS, OFFSETS = 24, 5
"""How many peaks of the spectrum are tried, and frequencies for each."""


def fraction_on_grid(onsets: np.ndarray) -> float:
    """The largest fraction of onsets (seconds, sorted) on one grid of equal steps.

        max over s, φ of the mean over onsets t of [|t − φ − k s| ≤ `TOLERANCE` s for an integer k]

    The step s is one of `SIXTEENTHS`, the phase φ is free. Candidates for 1/s are the highest
    peaks of the spectrum |Σ exp(2πi f t)|; for each, the best φ is found exactly. NaN for fewer
    than two onsets.
    """
    if len(onsets) < 2:
        return float("nan")
    onsets = onsets - onsets[0]
    frequencies = _candidates(onsets)
    phase_FN = np.sort(onsets * frequencies[:, None] % 1, axis=1)
    twice_FN = np.concatenate([phase_FN, phase_FN + 1], axis=1)
    # The most onsets in a window of phases: from each onset, those up to two tolerances later.
    most = 0
    for phase_N, twice_N in zip(phase_FN, twice_FN, strict=True):
        last_N = np.searchsorted(twice_N, phase_N + 2 * TOLERANCE + 1e-9, side="right")
        most = max(most, int((last_N - np.arange(len(onsets))).max()))
    return most / len(onsets)


def fraction_on_beat(onsets: np.ndarray, beat: float, frame: float) -> float:
    """The same for piano-rolls: the largest fraction of frames with onsets at one phase of a beat.

    The frames are numbered k; the beat has b of them; the result is max over φ of the mean over
    the frames k with an onset of [k ≡ φ modulo b].
    """
    per_beat = max(1, round(beat / frame))
    frames = np.unique(np.round(onsets / frame).astype(int))
    return float(np.bincount(frames % per_beat).max() / len(frames))


def metre(onsets: np.ndarray, beat: float, frame: float) -> float:
    """How unevenly the notes of a piano-roll start within the best bar, in bits.

        max over bars of b frames of  log₂ b − H,   H = −Σ_φ p(φ) log₂ p(φ)

    p(φ) is the fraction of notes that start in a frame k with k ≡ φ modulo b. 0: everywhere in the
    bar alike. NaN without onsets.
    """
    if len(onsets) == 0:
        return float("nan")
    frames, per_beat = np.round(onsets / frame).astype(int), max(1, round(beat / frame))
    bits = []
    for bar in (per_beat * beats for beats in BARS):
        p = np.bincount(frames % bar) / len(frames)
        p = p[p > 0]
        bits.append(np.log2(bar) + (p * np.log2(p)).sum())
    return float(max(bits))


def _candidates(onsets: np.ndarray) -> np.ndarray:
    """Frequencies 1/s of possible grids, in steps per second."""
    at = np.round(onsets / RESOLUTION).astype(int)
    size = 1 << int(np.ceil(np.log2(4 * (at[-1] + 1 / (RESOLUTION * SIXTEENTHS[0])))))
    spectrum = np.abs(np.fft.rfft(np.bincount(at), size))
    frequencies = np.fft.rfftfreq(size, RESOLUTION)
    shortest, longest = SIXTEENTHS
    allowed = np.flatnonzero((frequencies >= 1 / longest) & (frequencies <= 1 / shortest))
    peaks = allowed[np.argsort(-spectrum[allowed])[:PEAKS]]
    steps = np.linspace(-0.5, 0.5, OFFSETS) * frequencies[1]
    candidates: np.ndarray = (frequencies[peaks][:, None] + steps).ravel()
    return candidates
