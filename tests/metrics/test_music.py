"""Metrics of pieces: computed by hand, compared with muspy, and degenerate pieces."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import make_notes, tune

from musegen.codecs.midi import tidy
from musegen.metrics import music
from musegen.metrics.music import MEASURES, degenerate, piece_metrics

SCALE = (60, 62, 64, 65, 67, 69, 71, 72)
SIXTEENTH = 0.125


def melody(pitches: list[int], step: float = 0.5, length: float = 0.5) -> np.ndarray:
    return make_notes([(step * i, step * i + length, p, 80) for i, p in enumerate(pitches)])


def test_metrics_of_a_scale_by_hand() -> None:
    """One octave of C major, a note per beat of half a second: seven pitch classes, C twice."""
    metrics = piece_metrics(melody(list(SCALE)))
    assert list(metrics) == list(MEASURES)
    assert metrics == pytest.approx({
        "pitch_class_entropy": 0.25 * 2 + 6 * 0.125 * 3,
        "pitch_range": 12,
        "polyphony": 1,
        "note_density": 2,
        "inter_onset_entropy": 0,
        "scale_consistency": 1,
        "empty_beat_rate": 0,
        "groove_consistency": 1,  # two measures with an onset on every beat
        "repeated_patterns": 0,
        "onsets_on_grid": 1,
        "longest_note": 0.5,
        "long_note_time": 0,
    })  # fmt: skip


def test_polyphony_ignores_silence() -> None:
    notes = make_notes([(0, 2, 60, 80), (1, 2, 64, 80), (5, 6, 67, 80)])
    assert music.polyphony(notes) == pytest.approx(4 / 3)


def test_inter_onset_entropy() -> None:
    even = make_notes(
        [(t, t + 0.1, 60, 80) for t in (0, 0.02, 0.5, 1.01, 1.5)]
    )  # the first two are one chord
    assert music.inter_onset_entropy(even) == 0
    dotted = make_notes([(t, t + 0.1, 60, 80) for t in (0, 0.75, 1, 1.75, 2)])
    assert music.inter_onset_entropy(dotted) == pytest.approx(1)
    for ratio in (1.5, 4 / 3, 2):  # in different bins
        notes = make_notes([(t, t + 0.1, 60, 80) for t in (0, 0.3, 0.3 + 0.3 * ratio)])
        assert music.inter_onset_entropy(notes) == pytest.approx(1)
    assert math.isnan(music.inter_onset_entropy(even[:1]))


def test_scale_consistency() -> None:
    assert music.scale_consistency(melody([p + 5 for p in SCALE])) == 1  # F major
    assert music.scale_consistency(melody([57, 59, 60, 62, 64, 65, 67, 69])) == 1  # A minor
    assert music.scale_consistency(melody(list(range(60, 72)))) == pytest.approx(7 / 12)


def test_empty_beats() -> None:
    notes = make_notes([(0, 0.5, 60, 80), (1.6, 1.7, 60, 80), (2.4, 3.0, 60, 80)])
    assert music.empty_beat_rate(notes) == pytest.approx(2 / 6)  # the second and the third
    assert music.empty_beat_rate(notes, beat=1.0) == 0


def test_groove() -> None:
    """Two measures that differ in two of sixteen positions; an early onset is rounded."""
    beats = [0, 0.5, 1.0, 1.5, 2.0, 2.495, 3.125, 3.5]
    notes = make_notes([(t, t + 0.1, 60, 80) for t in beats])
    assert music.groove_consistency(notes) == pytest.approx(1 - 2 / 16)
    assert math.isnan(music.groove_consistency(notes[:4]))


def test_repeated_patterns() -> None:
    theme = [60, 64, 67, 72]
    assert music.repeated_patterns(melody([*theme, 50, 51, *theme, 52])) == pytest.approx(8 / 11)
    assert music.repeated_patterns(melody([60, 64, 67])) == 0
    assert music.repeated_patterns(melody([60] * 6)) == 1


def test_silence_has_no_metrics() -> None:
    metrics = piece_metrics(make_notes([]))
    assert list(metrics) == list(MEASURES)
    assert all(math.isnan(v) for v in metrics.values())


@pytest.mark.parametrize("seed", range(5))
def test_muspy_agrees(seed: int) -> None:
    """muspy counts a release in its time step, so all notes here end between beats."""
    muspy = pytest.importorskip("muspy")
    rng = np.random.default_rng(seed)
    rows = []
    for start in np.cumsum(rng.choice([0, 1, 2, 4, 23], 120)):
        length = int(rng.integers(1, 12))
        length += (start + length) % 4 == 0
        rows.append((int(start), int(length), int(rng.integers(30 + seed, 96)), 80))
    notes = from_sixteenths(rows)
    steps = [(round(n["start"] / SIXTEENTH), round((n["end"] - n["start"]) / SIXTEENTH))
             for n in notes]  # fmt: skip
    track = muspy.Track(notes=[
        muspy.Note(time=t, duration=d, pitch=int(n["pitch"]), velocity=80)
        for (t, d), n in zip(steps, notes, strict=True)
    ])  # fmt: skip
    muspy_music = muspy.Music(resolution=4, tracks=[track])
    metrics = piece_metrics(notes)
    assert metrics["pitch_class_entropy"] == pytest.approx(muspy.pitch_class_entropy(muspy_music))
    assert metrics["pitch_range"] == muspy.pitch_range(muspy_music)
    assert metrics["polyphony"] == pytest.approx(muspy.polyphony(muspy_music))
    assert metrics["scale_consistency"] == pytest.approx(muspy.scale_consistency(muspy_music))
    assert metrics["empty_beat_rate"] == pytest.approx(muspy.empty_beat_rate(muspy_music))
    assert metrics["empty_beat_rate"] > 0.1
    assert metrics["groove_consistency"] == pytest.approx(muspy.groove_consistency(muspy_music, 16))


def from_sixteenths(rows: list[tuple[int, int, int, int]]) -> np.ndarray:
    """(step, steps, pitch, velocity) in sixteenths → the canonical notes."""
    return tidy(make_notes([(s * SIXTEENTH, (s + d) * SIXTEENTH, p, v) for s, d, p, v in rows]))


def test_a_tune_is_not_degenerate() -> None:
    assert degenerate(tune(0)) is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "silence: no notes"),
        ([(0.0, 1.0, 60, 80)], "only 1 notes"),
        ([(i, i + 0.5, 60, 80) for i in range(40)], "one repeated note: MIDI 60 is 100%"),
        ([(100 * i, 100 * i + 1, 60 + i, 80) for i in range(9)], "mostly silence: 792 s of 801 s"),
    ],
)
def test_degenerate(rows: list, message: str) -> None:
    assert message in str(degenerate(make_notes(rows)))
