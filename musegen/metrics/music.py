"""What can be said of a piece by counting its notes."""

from __future__ import annotations

import numpy as np

from musegen.codecs.midi import MICROSECONDS_PER_BEAT

BEAT = MICROSECONDS_PER_BEAT / 1e6
"""Seconds of a beat where nothing says otherwise."""
MEASURE, POSITIONS = 4, 16
"""Beats of a measure, and the sixteenth notes in it."""
CHORD = 0.03
"""Seconds within which onsets are one chord: hands are no metronomes."""
FIGURE = 4
"""Notes of a metric."""
MAJOR = (0, 2, 4, 5, 7, 9, 11)

LABELS = {
    "pitch_class_entropy": "Pitch-class entropy (bits)",
    "pitch_range": "Pitch range (semitones)",
    "polyphony": "Polyphony (notes at once)",
    "note_density": "Note density (notes/s)",
    "inter_onset_entropy": "Inter-onset entropy (bits)",
    "scale_consistency": "Scale consistency",
    "empty_beat_rate": "Empty beats",
    "groove_consistency": "Groove consistency",
    "repeated_figures": "Notes in repeated metrics",
}
"""The metrics of `piece_metrics`, as a person reads them."""


def piece_metrics(notes: np.ndarray, beat: float = BEAT) -> dict[str, float]:
    """Nine metrics of a piece (`NOTES`), by the names of `LABELS`; NaN where there is none.

    Those of the rhythm lay a grid of `beat` seconds from time 0, since notes know no tempo.
    """
    if len(notes) == 0:
        return dict.fromkeys(LABELS, float("nan"))
    return {
        "pitch_class_entropy": pitch_class_entropy(notes),
        "pitch_range": float(np.ptp(notes["pitch"].astype(int))),
        "polyphony": polyphony(notes),
        "note_density": len(notes) / float(notes["end"].max()),
        "inter_onset_entropy": inter_onset_entropy(notes),
        "scale_consistency": scale_consistency(notes),
        "empty_beat_rate": empty_beat_rate(notes, beat),
        "groove_consistency": groove_consistency(notes, beat),
        "repeated_figures": repeated_figures(notes),
    }


def pitch_class_entropy(notes: np.ndarray) -> float:
    """−Σ p log₂ p over the twelve pitch classes' shares of the notes, 0 to 3.58 bits."""
    return _entropy(np.bincount(notes["pitch"] % 12))


def polyphony(notes: np.ndarray) -> float:
    """How many notes sound, on average over the time in which any does."""
    return float((notes["end"] - notes["start"]).sum() / _covered(notes))


def inter_onset_entropy(notes: np.ndarray) -> float:
    """Entropy in bits of the times between successive onsets; NaN for less than two.

    Times are sorted into classes a third of an octave wide, which tells triplets and dotted
    notes from plain ones and forgives a tenth of rubato. Onsets within 30 ms are one chord.
    """
    between = np.diff(np.sort(notes["start"]))
    between = between[between > CHORD]
    if not len(between):
        return float("nan")
    classes = np.round(3 * np.log2(between / BEAT)).astype(int)
    return _entropy(np.unique(classes, return_counts=True)[1])


def scale_consistency(notes: np.ndarray) -> float:
    """The largest share of notes that one major (or natural minor) scale holds (Mogren 2016)."""
    counts = np.bincount(notes["pitch"] % 12, minlength=12)
    return float(max(np.roll(counts, root)[list(MAJOR)].sum() for root in range(12)) / len(notes))


def empty_beat_rate(notes: np.ndarray, beat: float = BEAT) -> float:
    """Share of the beats, from time 0 to the last release, in which nothing sounds."""
    first, last = _grid(notes["start"], beat), _grid(notes["end"], beat, up=True)
    edges = np.zeros(int(last.max()) + 1, int)
    np.add.at(edges, first, 1)
    np.add.at(edges, last, -1)
    return float((np.cumsum(edges)[:-1] == 0).mean())


def groove_consistency(notes: np.ndarray, beat: float = BEAT) -> float:
    """1 − the mean share of sixteenths in which neighbouring measures differ; NaN for one measure.

        1 − 1/(M − 1) Σ_m |G_m − G_{m+1}| / 16

    where G_m tells for each sixteenth note of measure m whether an onset falls next to it
    (Wu & Yang 2020).
    """
    sixteenth = beat * MEASURE / POSITIONS
    measures = int(_grid(notes["end"], beat * MEASURE, up=True).max())
    if measures < 2:
        return float("nan")
    struck = np.zeros((measures + 1) * POSITIONS, bool)
    struck[np.floor(notes["start"] / sixteenth + 0.5).astype(int)] = True
    groove_MP = struck.reshape(-1, POSITIONS)[:measures]
    return float(1 - (groove_MP[:-1] != groove_MP[1:]).mean())


def repeated_figures(notes: np.ndarray) -> float:
    """Share of notes within four successive pitches that come again anywhere in the piece.

    Notes follow one another in the canonical order of (start, pitch), so that a repeated chord
    is a metric too. 0 for less than four notes.
    """
    pitches = np.lib.stride_tricks.sliding_window_view(
        np.r_[notes["pitch"].astype(int), np.full(FIGURE - 1, -1)], FIGURE
    )[: max(0, len(notes) - FIGURE + 1)]
    _, which, times = np.unique(pitches, axis=0, return_inverse=True, return_counts=True)
    within = np.zeros(len(notes), bool)
    for i in np.flatnonzero(times[which.ravel()] > 1):
        within[i : i + FIGURE] = True
    return float(within.mean())


def degenerate(notes: np.ndarray) -> str | None:
    """Why a generated piece is no music, in a few words; None if nothing is wrong.

    Reported are silence, one pitch only, one pitch nine times out of ten, and stretches of
    silence that fill more than half of the piece.
    """
    if len(notes) == 0:
        return "silence: not a single note"
    share = np.bincount(notes["pitch"]).max() / len(notes)
    commonest = int(np.bincount(notes["pitch"]).argmax())
    if len(notes) >= 8 and share > 0.9:
        return f"one note over and over: MIDI {commonest} is {share:.0%} of {len(notes)} notes"
    if len(notes) < 8:
        return f"only {len(notes)} notes"
    sounded = _covered(notes)
    total = float(notes["end"].max())
    if sounded < 0.5 * total:
        return f"mostly silence: {total - sounded:.0f} s of {total:.0f} s"
    return None


def _covered(notes: np.ndarray) -> float:
    """Seconds during which at least one note sounds."""
    reached = np.maximum.accumulate(np.r_[0.0, notes["end"][:-1]])
    return float(np.maximum(0.0, notes["end"] - np.maximum(notes["start"], reached)).sum())


def _entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum() + 0.0)  # + 0.0: no minus before a zero


def _grid(seconds: np.ndarray, step: float, up: bool = False) -> np.ndarray:
    """Which step of the grid an instant lies in; `up`: how many steps it needs.

    A millionth of a step is forgiven, or a release on the beat would sound in the next one.
    """
    steps = np.ceil(seconds / step - 1e-6) if up else np.floor(seconds / step + 1e-6)
    return steps.astype(int)
