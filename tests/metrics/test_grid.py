"""The best grid of a piece, by hand and for random onsets; Mozart's quartets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import make_notes

from musegen.codecs.messages import MessageCodec, messages_to_notes, notes_to_messages
from musegen.metrics.grid import fraction_on_beat, fraction_on_grid, metre
from musegen.metrics.music import onsets_on_grid


@pytest.mark.parametrize("tempo", [61.3, 97.0, 119.1])
@pytest.mark.parametrize("phase", [0.0, 0.0931])
def test_a_piece_on_a_grid(tempo: float, phase: float) -> None:
    rng = np.random.default_rng(0)
    step = 15 / tempo
    onsets = phase + step * np.cumsum(rng.choice([1, 2, 3, 4], 300))
    assert fraction_on_grid(onsets) == 1
    triplets = onsets[::3] + step / 3  # a third of a step off: not within an eighth of it
    mixed = np.sort(np.r_[onsets, triplets])
    assert fraction_on_grid(mixed) == pytest.approx(3 / 4, abs=0.02)


def test_a_drifting_clock_leaves_the_grid() -> None:
    """One percent faster in the second half: both halves are on a grid, not on the same one."""
    rng = np.random.default_rng(1)
    steps = 0.15 * rng.choice([1, 2, 4], 400)
    steps[200:] *= 1.01
    assert fraction_on_grid(np.cumsum(steps)) < 0.8
    assert fraction_on_grid(np.cumsum(steps[:200])) == 1


def test_random_onsets() -> None:
    """A window holds a quarter of random onsets on average; the best one of many a third."""
    rng = np.random.default_rng(2)
    shares = [fraction_on_grid(np.sort(rng.uniform(0, 60, 250))) for _ in range(4)]
    assert 0.3 < np.mean(shares) < 0.42
    assert math.isnan(fraction_on_grid(np.array([1.0])))


def test_the_phase_of_the_beat_of_a_roll() -> None:
    """Frames 1, 3, 5 and 6 have onsets; 5 has two. Three of four have the same phase of 2."""
    onsets = 0.3 * np.array([1, 3, 5, 5, 6])
    assert fraction_on_beat(onsets, 0.6, 0.3) == pytest.approx(3 / 4)
    assert fraction_on_beat(onsets, 0.3, 0.3) == 1


def test_the_metre_by_hand() -> None:
    """A beat has 2 frames of 0.3 s: the bars are those of 6, 8, 12 and 16 frames."""
    bar = 0.3 * 6 * np.arange(48)
    assert metre(bar, 0.6, 0.3) == pytest.approx(np.log2(12) - 1)  # the best has 12 frames
    waltz = np.concatenate([bar, bar + 0.6, bar + 1.2])
    assert metre(waltz, 0.6, 0.3) == pytest.approx(np.log2(12 / 6))
    assert metre(0.3 * np.arange(48), 0.6, 0.3) == pytest.approx(0)
    twice = np.r_[0.3 * np.arange(48), 0.3 * 8 * np.arange(6)]  # a second note on every eighth
    p = np.array([12, *[6] * 7]) / 54
    assert metre(twice, 0.6, 0.3) >= 3 + (p * np.log2(p)).sum() - 1e-9
    assert np.isnan(metre(np.empty(0), 0.6, 0.3))


def test_messages_keep_the_grid_when_they_are_coded() -> None:
    """Rounding errors are carried. If they added up, a fifth of the onsets would leave the grid."""
    rng = np.random.default_rng(3)
    steps = 0.1389 * np.cumsum(rng.choice([1, 2, 3, 4], 150))
    piece = make_notes([(t, t + rng.uniform(0.03, 0.13), 60, 80) for t in steps])
    codec = MessageCodec()
    coded = messages_to_notes(codec.quantise(notes_to_messages(piece)))
    assert onsets_on_grid(piece) == 1
    assert onsets_on_grid(coded) > 0.95
    alone = notes_to_messages(piece)
    alone["time"] = codec.grid.values[[codec.grid.classes(t[None])[0] for t in alone["time"]]]
    assert onsets_on_grid(messages_to_notes(alone)) < 0.85
