"""Notes as JSON: the inverse pair, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_notes, tune

from musegen.errors import UserError
from musegen.studio.wire import MAX_NOTES, notes_of, packed, rows_of, unpacked


def test_notes_come_back() -> None:
    notes = tune(3)
    assert (notes_of(rows_of(notes)) == notes).all()
    assert rows_of(make_notes([(0.1, 0.30000000004, 60, 80)])) == [[0.1, 0.3, 60, 80]]
    assert notes_of([]).shape == (0,)


@pytest.mark.parametrize(
    "rows",
    [
        "notes",
        [[0, 1, 60]],
        [[0, 1, 60, "loud"]],
        [[0, 1, 60, None]],
        [[0, 1, 128, 80]],
        [[0, 1, 60, 0]],
        [[1, 1, 60, 80]],
        [[-1, 1, 60, 80]],
        [[0, float("nan"), 60, 80]],
        [[0, 1e9, 60, 80]],
        [[0, 1, 60, 80]] * (MAX_NOTES + 1),
    ],
)
def test_anything_else_is_refused_in_one_line(rows: object) -> None:
    with pytest.raises(UserError, match="^notes: .*should be") as caught:
        notes_of(rows)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_frames_come_back() -> None:
    values = np.arange(256) / 255
    assert np.allclose(unpacked(packed(values), 256), values)
    assert packed(np.array([[0.0, 1.0], [2.0, -1.0]]).T) == packed(np.array([0, 1, 1, 0]))
    with pytest.raises(UserError, match="has 256 bytes, but this model reads 784"):
        unpacked(packed(values), 784)
    with pytest.raises(UserError, match="base64"):
        unpacked("ä", 1)
