"""Comparison of samples with training sets: known densities, excerpts, and the ceiling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import make_notes, tune
from scipy.stats import gaussian_kde

from musegen.metrics.music import LABELS
from musegen.metrics.music_overlap import _density, compare, excerpts, overlap_and_kl


def test_overlap_of_equal_and_of_distant_distributions() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 1, 64)
    overlap, kl = overlap_and_kl(rng.normal(0, 1, 64), reference)
    assert overlap > 0.9
    assert 0 <= kl < 0.05
    far, far_kl = overlap_and_kl(rng.normal(30, 1, 64), reference)
    assert far < 0.01
    assert far_kl > 5


def test_overlap_of_two_gaussians_of_distances() -> None:
    """All samples are at the mean of a standard normal reference. The distances within the
    reference are half-normal with scale √2, those to the samples with scale 1."""
    rng = np.random.default_rng(1)
    overlap, _ = overlap_and_kl(np.zeros(50), rng.normal(0, 1, 400))
    crossing = math.sqrt(2 * math.log(math.sqrt(2)) / (1 - 1 / 2))
    expected = math.erf(crossing / 2) + 1 - math.erf(crossing / math.sqrt(2))
    assert overlap == pytest.approx(expected, abs=0.03)


def test_density_equals_that_of_scipy() -> None:
    distances = np.random.default_rng(2).gamma(2, 1, 100)
    grid = np.linspace(0, distances.max(), 256)
    expected = gaussian_kde(distances)(grid)
    assert _density(distances, grid) == pytest.approx(expected / expected.sum(), abs=1e-9)


def test_equal_values_are_no_error() -> None:
    assert overlap_and_kl(np.ones(3), np.ones(5)) == (1.0, 0.0)
    overlap, kl = overlap_and_kl(np.zeros(3), np.ones(5))
    assert overlap < 1e-6
    assert math.isfinite(kl)
    assert all(math.isnan(x) for x in overlap_and_kl(np.ones(0), np.ones(5)))


def test_excerpts() -> None:
    piece = make_notes([(0.5, 1, 60, 80), (3, 5, 62, 80), (4, 9, 64, 80), (9.5, 11, 65, 80)])
    cut = excerpts(piece, 4.0)
    assert [list(zip(e["start"], e["end"], e["pitch"], strict=True)) for e in cut] == [
        [(0.5, 1, 60), (3, 4, 62)],  # the second note ends with the excerpt
        [(0, 4, 64)],
        [(1.5, 3, 65)],
    ]
    assert len(excerpts(piece, 8.0)) == 1  # 3 s of 8 are left out
    assert len(excerpts(piece, 100.0)) == 1


def test_only_samples_like_the_training_set_reach_the_ceiling() -> None:
    training = [tune(seed, 60) for seed in range(12)]
    like = compare([tune(seed, 60) for seed in range(20, 24)], training)
    assert list(like) == list(LABELS)
    high = [make_notes([(0.1 * i, 0.1 * i + 0.4, 90 + i % 30, 80) for i in range(300)])] * 4
    unlike = compare(high, training)
    for name in ("pitch_class_entropy", "polyphony", "note_density", "scale_consistency"):
        assert like[name]["overlap"] > like[name]["ceiling_overlap"] - 0.25
        assert unlike[name]["overlap"] < unlike[name]["ceiling_overlap"] - 0.3
        assert unlike[name]["kl"] > unlike[name]["ceiling_kl"]
    assert unlike["polyphony"]["samples"] == pytest.approx(4, abs=0.1)
    assert unlike["polyphony"]["training"] == pytest.approx(1)


def test_nothing_to_compare() -> None:
    assert compare([make_notes([])], [tune(0), tune(1)]) == {}
    assert compare([tune(0)], [tune(1)]) == {}
