"""Baselines by the kind of data: metrics computed by hand, and their order in a table."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from musegen.baselines import by_spec
from musegen.baselines.by_spec import baselines, random_part, with_baselines
from musegen.specs import FrameBatch, Frames, LabelledMessages, LabelledTokens, Messages, Rolls
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


def test_baselines_of_large_data_read_random_pieces_and_say_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    pieces = {s: [rng.integers(0, 2, (100, 3)) for _ in range(9)] for s in ("train", "val", "test")}
    data = split(spec=Messages(2, 2, 2), coded=pieces.__getitem__)
    everything = baselines(data)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(by_spec, "MAX_MESSAGES", {"train": 250, "val": 10_000, "test": 500})
    part = baselines(data)
    assert capsys.readouterr().out == (
        "baselines read a random part: 3 of 9 train pieces (300 messages), "
        "9 of 9 val pieces (900 messages), 5 of 9 test pieces (500 messages)\n"
    )
    assert part.keys() == everything.keys()
    assert part["unigram_nll"] == pytest.approx(everything["unigram_nll"], rel=0.05)


def test_a_random_part_is_in_order_and_ends_when_it_is_large_enough() -> None:
    read: list[int] = []

    class Pieces(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    part = random_part(Pieces([0] * n for n in range(1, 101)), 200)
    assert part.indices == sorted(read)
    assert [len(piece) for piece in part.pieces] == [i + 1 for i in part.indices]
    sizes = [i + 1 for i in read]
    assert sum(sizes) >= 200 > sum(sizes[:-1])
    assert len(random_part([[0] * 9, [0]], 100).pieces) == 2


def test_baselines_of_labels_are_those_of_the_chosen_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pieces of label 1 have another note; whichever are chosen, each label keeps its own."""
    pieces = [np.full((50, 3), label) for label in (0, 1) * 10]
    data = split(
        spec=LabelledMessages(2, 2, 2, num_labels=2), coded=lambda s: pieces,
        labels={"test": [0, 1] * 10}, codec=split(labels=("a", "b")),
    )  # fmt: skip
    monkeypatch.setattr(by_spec, "MAX_MESSAGES", {"train": 10_000, "val": 300, "test": 300})
    metrics = baselines(data)
    assert metrics["unigram_note/a"] == pytest.approx(math.log(2), rel=0.01)
    assert {"ngram_nll/a", "ngram_nll/b"} <= metrics.keys()
