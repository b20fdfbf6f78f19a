"""Runs of notes found in training: by hand, and compared with a search of all runs."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_notes

from musegen.metrics.copying import RUN, Runs, found_share, longest_runs


def melody(pitches: list[int], step: float = 0.5) -> np.ndarray:
    return make_notes([(step * i, step * i + 0.4, p, 80) for i, p in enumerate(pitches)])


THEME = [60, 62, 64, 65, 67, 65, 64, 62, 60, 67]


def test_a_transposed_theme_is_found() -> None:
    """The piece has the theme's ten notes, five higher and twice as slow, between two others."""
    training = Runs([melody(THEME), melody([60, 60, 72, 72])])
    piece = melody([40, *(p + 5 for p in THEME), 41], step=1.0)
    assert longest_runs([piece], training).tolist() == [10]
    assert found_share([piece], training) == (3, 5)  # of its runs of eight
    assert found_share([piece[:7]], training) == (0, 0)


def test_a_run_does_not_cross_pieces() -> None:
    training = Runs([melody(THEME[:5]), melody(THEME[5:])])
    assert longest_runs([melody(THEME)], training).tolist() == [5]
    assert found_share([melody(THEME)], training) == (0, 3)


def test_the_notes_of_a_chord_are_in_the_order_of_pitch() -> None:
    """A player's chord with the upper note first, 20 ms early, is the same chord."""
    training = Runs([make_notes([(0, 1, 60, 80), (0, 1, 64, 80), (1, 2, 67, 80)])])
    piece = make_notes([(0, 1, 54, 80), (0.5, 1, 58, 80), (1, 2, 61, 80)])
    assert longest_runs([piece], training).tolist() == [3]
    early = make_notes([(0.48, 1, 58, 80), (0.5, 1, 54, 80), (1, 2, 61, 80)])
    assert longest_runs([early], training).tolist() == [3]


def test_pieces_without_runs() -> None:
    training = Runs([melody([60, 62])])
    pieces = [melody([]), melody([60]), melody([60, 61]), melody([60, 62])]
    assert longest_runs(pieces, training).tolist() == [0, 1, 1, 2]
    assert longest_runs(pieces, Runs([melody([60])])).tolist() == [0, 1, 1, 1]
    assert longest_runs([], training).tolist() == []


@pytest.mark.parametrize("seed", range(3))
def test_a_search_of_all_runs_agrees(seed: int) -> None:
    rng = np.random.default_rng(seed)
    train = [rng.integers(60, 63, rng.integers(1, 60)).tolist() for _ in range(8)]
    pieces = [rng.integers(50, 53, rng.integers(1, 40)).tolist() for _ in range(6)]
    pieces.append([p + 1 for p in train[3]])

    def runs(pitches: list[int], n: int) -> list[tuple[int, ...]]:
        found = np.diff(pitches).tolist()
        return [tuple(found[i : i + n - 1]) for i in range(len(pitches) - n + 1)]

    known = {n: {r for t in train for r in runs(t, n)} for n in range(1, 61)}
    expected = [max(n for n in known if set(runs(p, n)) & known[n]) for p in pieces]
    index = Runs([melody(t) for t in train])
    notes = [melody(p) for p in pieces]
    assert longest_runs(notes, index).tolist() == expected
    of_eight = [r in known[RUN] for p in pieces for r in runs(p, RUN)]
    assert found_share(notes, index) == (sum(of_eight), len(of_eight))
