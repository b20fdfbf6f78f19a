"""Baselines by the kind of data: metrics computed by hand, and their order in a table."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from musegen.baselines.by_spec import baselines, with_baselines
from musegen.specs import FrameBatch, Frames, LabelledTokens, Messages, Rolls
from musegen.training.testing import extra_metrics, format_test_table


def split(**parts):
    return SimpleNamespace(**parts)


def test_messages_unigram_and_ngram() -> None:
    """The note is uniform, the velocity is a function of the note, and the time is constant."""
    rng = np.random.default_rng(0)

    def piece(n: int) -> np.ndarray:
        note_T = rng.integers(0, 2, n)
        return np.stack([note_T, note_T, np.zeros(n, int)], axis=1)

    pieces = {"train": [piece(3000)], "val": [piece(500)], "test": [piece(500), piece(300)]}
    metrics = baselines(split(spec=Messages(2, 2, 4), coded=pieces.__getitem__))
    assert metrics["unigram_nll"] == pytest.approx(2 * math.log(2), abs=0.03)
    assert metrics["unigram_time"] == pytest.approx(0, abs=0.01)
    assert metrics["ngram_velocity"] == pytest.approx(0, abs=0.01)
    assert metrics["ngram_note"] == pytest.approx(math.log(2), abs=0.05)
    assert metrics["ngram_nll"] == pytest.approx(
        sum(metrics[f"ngram_{f}"] for f in ("note", "velocity", "time"))
    )
    assert metrics["ngram_order"] >= 2


def test_frames_are_independent_units() -> None:
    """On in 3 of 4 training examples, so p = (3 + 1) / (4 + 2); the second test value is 0.75."""
    train = [FrameBatch(torch.tensor([[1.0], [1.0]])), FrameBatch(torch.tensor([[1.0], [0.0]]))]
    test = [FrameBatch(torch.tensor([[1.0], [0.75]]))]
    data = split(spec=Frames(1), train_dataloader=lambda: train, test_dataloader=lambda: test)
    on, off = math.log(4 / 6), math.log(2 / 6)
    assert baselines(data) == pytest.approx({
        "base_rate_log_likelihood": (1.75 * on + 0.25 * off) / 2,
        "base_rate_pseudo_likelihood": on,
    })  # fmt: skip


def test_accuracy_of_rolls_is_a_fraction() -> None:
    piece = np.array([[1], [0]] * 50, np.uint8)
    data = split(spec=Rolls(1), rolls={"train": [piece] * 20, "val": [piece], "test": [piece]})
    metrics = baselines(data)
    assert metrics["random_log_likelihood"] == pytest.approx(math.log(0.5))
    assert 0.99 < metrics["note_ngram_accuracy"] <= 1
    assert metrics["note_ngram_order"] == 2


def test_other_splits_have_no_baselines() -> None:
    data = split(spec=Rolls(1), rolls={})
    model = SimpleNamespace(assess=lambda data, split: {"log_likelihood": -1.0})
    assert extra_metrics(model, data, {"assess": {"split": "val"}}) == {"log_likelihood": -1.0}


def test_labelled_texts_have_no_baselines_here() -> None:
    assert baselines(split(spec=LabelledTokens(3, 2))) == {}


def test_baselines_follow_their_metric() -> None:
    metrics = {
        "note": 1.0, "nll": 2.0, "ngram_order": 3.0, "unigram_nll": 4.0, "note_accuracy": 0.5,
        "note_1gram_note": 5.0, "bpc/Oz": 6.0, "ngram_bpc/Oz": 7.0,
    }  # fmt: skip
    assert with_baselines(metrics) == [
        ("note", "note", ""),
        ("note_1gram_note", "note", "note_1gram"),
        ("nll", "nll", ""),
        ("unigram_nll", "nll", "unigram"),
        ("note_accuracy", "note_accuracy", ""),
        ("bpc/Oz", "bpc/Oz", ""),
        ("ngram_bpc/Oz", "bpc/Oz", "ngram"),
        ("ngram_order", "order", "ngram"),
    ]


def test_the_table_is_short() -> None:
    metrics = {
        "bpc/Oz": 6.0, "gain_error/Oz": 0.125, "bpc/Ur": 7.0, "unigram_nll": 14.21875, "nll": 2.0,
        "log_z": -123456.7, "recognised": 0.123456,
    }  # fmt: skip
    assert format_test_table(metrics, Path("run/test.json")).splitlines() == [
        "test (indented: baselines)",
        "  nll                  2",
        "    unigram_nll       14.22",
        "  log_z          -123457",
        "  recognised           0.1235",
        "the metrics of each of 2 labels are in run/test.json",
    ]
