"""The overlap of distributions: known densities, and excerpts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import make_notes
from scipy.stats import gaussian_kde

from musegen.metrics.music_overlap import GRID, density, excerpts, excerpts_of, overlap


def test_overlap_of_equal_and_of_distant_distributions() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 1, 64)
    assert overlap(rng.normal(0, 1, 64), reference) > 0.9
    assert overlap(rng.normal(30, 1, 64), reference) < 0.01


def test_overlap_of_two_gaussians_of_distances() -> None:
    """All samples are at the mean of a standard normal reference. The distances within the
    reference are half-normal with scale √2, those to the samples with scale 1."""
    rng = np.random.default_rng(1)
    crossing = math.sqrt(2 * math.log(math.sqrt(2)) / (1 - 1 / 2))
    expected = math.erf(crossing / 2) + 1 - math.erf(crossing / math.sqrt(2))
    assert overlap(np.zeros(50), rng.normal(0, 1, 400)) == pytest.approx(expected, abs=0.03)


def test_density_equals_that_of_scipy() -> None:
    distances = np.random.default_rng(2).gamma(2, 1, 100)
    kernel = gaussian_kde(distances)
    bandwidth = float(np.sqrt(kernel.covariance[0, 0]))
    expected = kernel(np.linspace(0, distances.max(), GRID))
    found = density(distances, distances.max(), bandwidth)
    assert found == pytest.approx(expected / expected.sum(), rel=0.002, abs=1e-6)


def test_equal_values_are_no_error() -> None:
    assert overlap(np.ones(3), np.ones(5)) == 1
    assert overlap(np.zeros(3), np.ones(5)) < 1e-6
    assert math.isnan(overlap(np.ones(0), np.ones(5)))
    assert math.isnan(overlap(np.ones(3), np.ones(1)))


def test_nearly_equal_values_overlap() -> None:
    """One of 64 values differs, on one side only: 63/64 of the distances are 0 on both sides."""
    reference = np.r_[1.0, np.zeros(63)]
    assert overlap(np.zeros(64), reference) == pytest.approx(1 - 1 / 64, abs=0.01)


def test_excerpts() -> None:
    piece = make_notes([(0.5, 1, 60, 80), (3, 5, 62, 80), (4, 9, 64, 80), (9.5, 11, 65, 80)])
    cut = excerpts(piece, 4.0)
    assert [list(zip(e["start"], e["end"], e["pitch"], strict=True)) for e in cut] == [
        [(0.5, 1, 60), (3, 4, 62)],  # the second note goes on in the next excerpt
        [(0, 1, 62), (0, 4, 64)],
        [(0, 1, 64), (1.5, 3, 65)],
    ]
    assert len(excerpts(piece, 8.0)) == 1  # 3 s of 8 are left out
    assert len(excerpts(piece, 100.0)) == 1


def test_excerpts_are_bounded() -> None:
    long_piece = make_notes([(i, i + 1, 60, 80) for i in range(300)])
    assert sum(map(len, excerpts_of([long_piece] * 3, 2.0))) == 3 * 42
    assert sum(map(len, excerpts_of([long_piece] * 300, 2.0))) == 128


def test_silent_excerpts_are_skipped() -> None:
    """Of a piece that starts with a long rest, a later excerpt is taken."""
    late = make_notes([(9, 10, 60, 80), (13, 14, 62, 80)])
    assert [e["start"].tolist() for e in excerpts(late, 4.0, 1)] == [[1.0]]
    only_in_the_rest = make_notes([(5, 5.5, 60, 80)])  # 1.5 s of 4 are left out
    assert [len(piece) for piece in excerpts_of([only_in_the_rest, late], 4.0)] == [2]
