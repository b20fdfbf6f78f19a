"""Tile images, pixel by pixel."""

from __future__ import annotations

import matplotlib.image
import numpy as np
import pytest

from musegen.render.tiles import squared, stretched, tiles, write_tiles


def test_squares_have_a_gap_of_one_pixel() -> None:
    a, b, c = (np.full(4, x) for x in (0.25, 0.5, 1.0))
    b = np.array([0.1, 0.2, 0.3, 0.4])
    sheet = tiles([np.stack([a, b]), c[None]])
    expected = [
        [0.25, 0.25, 0, 0.1, 0.2],
        [0.25, 0.25, 0, 0.3, 0.4],
        [0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
    ]
    assert sheet.tolist() == [pytest.approx(row) for row in expected]


def test_other_sizes_become_vertical_strips_with_the_first_unit_at_the_bottom() -> None:
    sheet = tiles([np.array([[0.0, 0.5, 1.0], [1.0, 0.0, 0.0]])])
    assert sheet.tolist() == [[1, 0, 0], [0.5, 0, 0], [0, 0, 1]]


def test_squares_are_arranged_in_a_square_and_strips_in_a_row() -> None:
    assert [len(row) for row in squared(np.zeros((100, 784)))] == [10] * 10
    assert [len(row) for row in squared(np.zeros((10, 4)))] == [4, 4, 2]
    assert [len(row) for row in squared(np.zeros((100, 88)))] == [100]


def test_each_vector_is_scaled_to_the_range_0_to_1() -> None:
    assert stretched(np.array([[-1.0, 1.0, 3.0], [5.0, 5.0, 5.0]])).tolist() == [
        [0, 0.5, 1],
        [0, 0, 0],
    ]


def test_the_file_has_one_pixel_per_unit(tmp_path) -> None:
    path = write_tiles([np.array([[0.0, 1.0, 0.0, 0.0]] * 10)] * 10, tmp_path / "new" / "a.png")
    image = matplotlib.image.imread(path)
    assert image.shape[:2] == (29, 29)
    assert image[0, 1, 0] == 1
    assert image[0, 0, 0] == 0
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]
