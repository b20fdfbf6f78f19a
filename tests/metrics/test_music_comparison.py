"""The comparison of samples with training and held-out pieces."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import make_notes, tune

from datamodules.roll_benchmark import RollBenchmark
from musegen.metrics.music import MEASURES, ROLL_MEASURES
from musegen.metrics.music_comparison import AGES, compare


def test_only_samples_like_the_training_set_reach_the_ceiling() -> None:
    training = [tune(seed, 60) for seed in range(12)]
    held_out = [tune(seed, 60) for seed in range(30, 36)]
    like = compare([tune(seed, 60) for seed in range(20, 24)], training, held_out)
    assert list(like["measures"]) == [*MEASURES, AGES]
    high = [make_notes([(0.1 * i, 0.1 * i + 0.4, 90 + i % 30, 80) for i in range(300)])] * 4
    unlike = compare(high, training, held_out)
    for name in ("pitch_class_entropy", "polyphony", "note_density", "scale_consistency"):
        assert like["measures"][name]["ratio"] > 0.7
        assert unlike["measures"][name]["ratio"] < 0.6
    assert like["headline"] > 0.8
    assert unlike["headline"] < 0.6
    assert like["held_out_headline"] == pytest.approx(unlike["held_out_headline"], abs=0.1)
    polyphony = unlike["measures"]["polyphony"]
    assert polyphony["samples"] == pytest.approx(4, abs=0.1)
    assert polyphony["training"] == pytest.approx(1)
    assert unlike["copying"]["samples"] == {"runs_of_8": 0, "longest": 2, "longest_max": 2}


def test_a_copy_is_told() -> None:
    training = [tune(seed, 60) for seed in range(12)]
    copied = compare([training[3], training[4]], training)
    assert copied["copying"]["samples"]["runs_of_8"] == 1
    assert copied["copying"]["samples"]["longest_max"] > 50
    assert math.isnan(copied["copying"]["held_out"]["runs_of_8"])
    assert math.isnan(copied["held_out_headline"])
    assert copied["excerpts"]["held_out"] == 0


def test_a_standing_chord_is_told_in_every_excerpt() -> None:
    """Rolls of 64 frames: bars of eight frames in training, one chord in the samples."""
    bars = [(8, 0), (12, 5), (8, 7), (12, 0), (6, 2)]
    training = []
    for _ in range(8):
        rows, frame = [], 0
        while frame < 64:
            length, root = bars[(frame // 5) % 5]
            rows.append((0.3 * frame, 0.3 * (frame + length), 48 + root, 80))
            frame += length
        training.append(make_notes(rows))
    stuck = [make_notes([(0, 0.3 * 256, 48, 80), (0, 0.3 * 256, 72, 80)])] * 2
    music = compare(stuck, training, training, beat=0.6, frame=0.3)
    assert list(music["measures"]) == [*MEASURES, *ROLL_MEASURES, AGES]
    frames = round(music["excerpts"]["seconds"] / 0.3)
    assert music["excerpts"]["samples"] == 2 * round(256 / frames)
    assert music["measures"]["longest_low_hold"]["samples"] == frames
    assert music["measures"]["longest_low_hold"]["training_95"] <= 12
    assert music["measures"]["low_hold_time"]["samples"] == 1
    assert music["measures"]["longest_low_hold"]["ratio"] < 0.1
    assert music["measures"][AGES]["ratio"] < 0.1


def test_nothing_to_compare() -> None:
    assert compare([make_notes([])], [tune(0), tune(1)]) == {}
    assert compare([tune(0)], [tune(1)]) == {}


def test_pieces_that_are_silent_for_longer_than_an_excerpt() -> None:
    late = tune(1)
    late["start"] += 500
    late["end"] += 500
    training = [late, *(tune(i % 12) for i in range(128))]  # one excerpt of each piece is taken
    found = compare([tune(0)], training, [late])
    assert found["excerpts"]["training"] > 2
    assert not math.isnan(found["headline"])


@pytest.mark.real_data
def test_held_out_chorales_reach_the_ceiling(real_data: Path) -> None:
    data = RollBenchmark("JSB_Chorales", root=real_data / "icml2012")
    data.setup()
    held_out = data.notes("val")
    music = compare(held_out[:38], data.notes("train"), held_out[38:], data.beat, data.frame)
    assert music["headline"] == pytest.approx(1, abs=0.05)
    assert music["held_out_headline"] == pytest.approx(1, abs=0.05)
    assert np.median([m["ratio"] for m in music["measures"].values()]) > 0.97
    assert music["copying"]["samples"]["runs_of_8"] == pytest.approx(0.21, abs=0.04)
