"""Degenerate pieces are called what they are."""

from __future__ import annotations

import pytest
from conftest import make_notes, tune

from musegen.metrics.music import degenerate


def test_music_passes() -> None:
    assert degenerate(tune(0)) is None


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "silence: not a single note"),
        ([(0.0, 1.0, 60, 80)], "only 1 notes"),
        ([(i, i + 0.5, 60, 80) for i in range(40)], "one note over and over: MIDI 60 is 100%"),
        ([(100 * i, 100 * i + 1, 60 + i, 80) for i in range(9)], "mostly silence: 792 s of 801 s"),
    ],
)
def test_degenerate(rows: list, said: str) -> None:
    assert said in str(degenerate(make_notes(rows)))
