"""Metrics of a piece that follow from its notes: pitches, rhythm, repetition."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from musegen.codecs.midi import MICROSECONDS_PER_BEAT
from musegen.metrics.grid import fraction_on_beat, fraction_on_grid, metre
from musegen.metrics.holds import long_note_time, longest_note, low_holds, sounding_time

BEAT = MICROSECONDS_PER_BEAT / 1e6
"""Seconds per beat, by default."""
MEASURE, POSITIONS = 4, 16
"""Beats per measure, and sixteenth notes per measure."""
CHORD = 0.03
"""Seconds. Onsets that are closer belong to one chord, since players are not exact."""
PATTERN = 4
"""Notes of a pattern that may be repeated."""
MAJOR = (0, 2, 4, 5, 7, 9, 11)


class Measure(NamedTuple):
    """How a metric is named in reports, and what it is, in one line."""

    label: str
    meaning: str


MEASURES = {
    "pitch_class_entropy": Measure(
        "Pitch-class entropy (bits)", "0: one note name; 3.58: all twelve"
    ),
    "pitch_range": Measure("Pitch range (semitones)", "from the lowest to the highest note"),
    "polyphony": Measure("Polyphony (notes at once)", "the mean while something sounds"),
    "note_density": Measure("Note density (notes/s)", "how many notes start"),
    "inter_onset_entropy": Measure(
        "Inter-onset entropy (bits)", "how many different times there are between onsets"
    ),
    "scale_consistency": Measure(
        "Scale consistency (fraction)", "notes in one major or natural minor scale: the key"
    ),
    "empty_beat_rate": Measure("Empty beats (fraction)", "beats in which nothing sounds"),
    "groove_consistency": Measure(
        "Groove consistency (fraction)", "how far a measure has the rhythm of the one before"
    ),
    "repeated_patterns": Measure(
        "Notes in repeated figures (fraction)", "four successive pitches that occur again"
    ),
    "onsets_on_grid": Measure(
        "Onsets on the grid (fraction)",
        "on the best grid of sixteenths; in piano-rolls at the best phase of the beat",
    ),
    "longest_note": Measure("Longest note (s or frames)", "frames in piano-rolls"),
    "long_note_time": Measure(
        "Time under a long note (fraction)", "longer than 4 s; in piano-rolls than 16 frames"
    ),
}
"""The metrics of `piece_metrics` for all music."""
ROLL_MEASURES = {
    "metre": Measure(
        "Metre (bits)", "how unevenly notes start within the best bar of 3, 4, 6 or 8 beats"
    ),
    "longest_low_hold": Measure(
        "Longest low hold (frames)", "the same notes below middle C; silence does not count"
    ),
    "low_hold_time": Measure(
        "Time under a long low hold (fraction)",
        "the same notes below middle C for more than 16 frames",
    ),
    "low_voice_time": Measure(
        "Time with a low voice (fraction)", "frames in which something sounds below middle C"
    ),
}
"""Further metrics, of piano-rolls only."""


def measures_for(frame: float | None) -> dict[str, Measure]:
    """The metrics of piano-rolls with frames of so many seconds, or of other music (None)."""
    return MEASURES if frame is None else MEASURES | ROLL_MEASURES


def piece_metrics(
    notes: np.ndarray, beat: float = BEAT, frame: float | None = None
) -> dict[str, float]:
    """The metrics of a piece (`NOTES`) by the names of `measures_for`; NaN if undefined.

    Groove and empty beats use a grid of `beat` seconds from time 0, since notes have no tempo.
    `frame` is the length of a frame in seconds, for pieces that are piano-rolls. Seconds and
    fractions of time are counted from 0 to the last release.
    """
    if len(notes) == 0:
        return dict.fromkeys(measures_for(frame), float("nan"))
    metrics = {
        "pitch_class_entropy": pitch_class_entropy(notes),
        "pitch_range": float(np.ptp(notes["pitch"].astype(int))),
        "polyphony": polyphony(notes),
        "note_density": len(notes) / float(notes["end"].max()),
        "inter_onset_entropy": inter_onset_entropy(notes),
        "scale_consistency": scale_consistency(notes),
        "empty_beat_rate": empty_beat_rate(notes, beat),
        "groove_consistency": groove_consistency(notes, beat),
        "repeated_patterns": repeated_patterns(notes),
        "onsets_on_grid": onsets_on_grid(notes, beat, frame),
        "longest_note": longest_note(notes, frame),
        "long_note_time": long_note_time(notes, frame),
    }
    if frame is None:
        return metrics
    low = low_holds(notes, frame)
    return metrics | {
        "metre": metre(notes["start"], beat, frame),
        "longest_low_hold": low.longest(),
        "low_hold_time": low.long_time(),
        "low_voice_time": low.sounding(),
    }


def pitch_class_entropy(notes: np.ndarray) -> float:
    """−Σ p log₂ p, where p are the frequencies of the twelve pitch classes; 0 to 3.58 bits."""
    return _entropy(np.bincount(notes["pitch"] % 12))


def polyphony(notes: np.ndarray) -> float:
    """The mean number of sounding notes, over the time in which at least one sounds."""
    return float((notes["end"] - notes["start"]).sum() / sounding_time(notes))


def inter_onset_entropy(notes: np.ndarray) -> float:
    """The entropy in bits of the times between successive onsets; NaN for fewer than two onsets.

    The times are binned on a logarithmic scale, three bins per factor of 2. Triplets and dotted
    notes are then in other bins than plain ones, and 10 % of rubato changes little. Onsets within
    30 ms are one chord.
    """
    between = np.diff(np.sort(notes["start"]))
    between = between[between > CHORD]
    if not len(between):
        return float("nan")
    classes = np.round(3 * np.log2(between / BEAT)).astype(int)
    return _entropy(np.unique(classes, return_counts=True)[1])


def scale_consistency(notes: np.ndarray) -> float:
    """The largest fraction of notes in one major (or natural minor) scale (Mogren 2016)."""
    counts = np.bincount(notes["pitch"] % 12, minlength=12)
    return float(max(np.roll(counts, root)[list(MAJOR)].sum() for root in range(12)) / len(notes))


def empty_beat_rate(notes: np.ndarray, beat: float = BEAT) -> float:
    """The fraction of silent beats, from time 0 to the last release."""
    first, last = _grid(notes["start"], beat), _grid(notes["end"], beat, up=True)
    edges = np.zeros(int(last.max()) + 1, int)
    np.add.at(edges, first, 1)
    np.add.at(edges, last, -1)
    return float((np.cumsum(edges)[:-1] == 0).mean())


def groove_consistency(notes: np.ndarray, beat: float = BEAT) -> float:
    """1 − the mean fraction of sixteenths that differ between successive measures; NaN for one.

        1 − 1/(M − 1) Σ_m |G_m − G_{m+1}| / 16

    where G_m is, for each sixteenth note of measure m, whether an onset is closest to it
    (Wu & Yang 2020).
    """
    sixteenth = beat * MEASURE / POSITIONS
    measures = int(_grid(notes["end"], beat * MEASURE, up=True).max())
    if measures < 2:
        return float("nan")
    has_onset = np.zeros((measures + 1) * POSITIONS, bool)
    has_onset[np.floor(notes["start"] / sixteenth + 0.5).astype(int)] = True
    groove_MP = has_onset.reshape(-1, POSITIONS)[:measures]
    return float(1 - (groove_MP[:-1] != groove_MP[1:]).mean())


def onsets_on_grid(notes: np.ndarray, beat: float = BEAT, frame: float | None = None) -> float:
    """The fraction of onsets on the best grid: `fraction_on_grid`, or `fraction_on_beat` for rolls.

    Onsets within 30 ms are one chord and count once.
    """
    if frame is not None:
        return fraction_on_beat(notes["start"], beat, frame)
    starts = np.sort(notes["start"])
    return fraction_on_grid(starts[np.r_[True, np.diff(starts) > CHORD]])


def in_chords(notes: np.ndarray) -> np.ndarray:
    """The notes in the order of (onset, pitch), where onsets within 30 ms are one onset."""
    notes = notes[np.argsort(notes["start"], kind="stable")]
    chord = np.cumsum(np.diff(notes["start"], prepend=0.0) > CHORD)
    return notes[np.lexsort((notes["pitch"], chord))]


def repeated_patterns(notes: np.ndarray) -> float:
    """The fraction of notes in a pattern of four successive pitches that occurs more than once.

    The order is the canonical one of (start, pitch), so that a repeated chord of four notes is a
    repeated pattern. 0 for fewer than four notes.
    """
    pitches = np.lib.stride_tricks.sliding_window_view(
        np.r_[notes["pitch"].astype(int), np.full(PATTERN - 1, -1)], PATTERN
    )[: max(0, len(notes) - PATTERN + 1)]
    _, which, times = np.unique(pitches, axis=0, return_inverse=True, return_counts=True)
    within = np.zeros(len(notes), bool)
    for i in np.flatnonzero(times[which.ravel()] > 1):
        within[i : i + PATTERN] = True
    return float(within.mean())


def degenerate(notes: np.ndarray) -> str | None:
    """The reason why a generated piece is degenerate, in a few words; None if it is not.

    A piece is degenerate if it has fewer than 8 notes, if more than 90 % of its notes have one
    pitch, or if more than half of its time is silent.
    """
    if len(notes) == 0:
        return "silence: no notes"
    if len(notes) < 8:
        return f"only {len(notes)} notes"
    fraction = np.bincount(notes["pitch"]).max() / len(notes)
    most_frequent = int(np.bincount(notes["pitch"]).argmax())
    if fraction > 0.9:
        return f"one repeated note: MIDI {most_frequent} is {fraction:.0%} of {len(notes)} notes"
    sounding = sounding_time(notes)
    total = float(notes["end"].max())
    if sounding < 0.5 * total:
        return f"mostly silence: {total - sounding:.0f} s of {total:.0f} s"
    return None


def _entropy(counts: np.ndarray) -> float:
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log2(p)).sum() + 0.0)  # + 0.0 turns −0.0 into 0.0


def _grid(seconds: np.ndarray, step: float, up: bool = False) -> np.ndarray:
    """The index of the grid step that contains each time; with `up` the number of steps up to it.

    The tolerance is a millionth of a step, so that a release on a beat does not count for it.
    """
    steps = np.ceil(seconds / step - 1e-6) if up else np.floor(seconds / step + 1e-6)
    return steps.astype(int)
