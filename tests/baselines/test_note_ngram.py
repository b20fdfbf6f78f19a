"""Frame accuracy by hand, and the benchmark's published baselines on its files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.roll_benchmark import RollBenchmark
from musegen.baselines.note_ngram import MAX_ORDER, baselines, count_notes, histories, note_ngrams
from musegen.metrics.accuracy import frame_accuracy


@pytest.mark.parametrize(
    ("reference", "sampled", "accuracy"),
    [
        ("0000", "0000", 1),      # silence predicted
        ("0000", "0100", 0),
        ("1100", "0000", 0),
        ("1100", "1100", 1),
        ("1100", "0100", 1 / 2),  # one is missing
        ("1100", "0110", 1 / 2),  # one wrong note: one error, not two
        ("1100", "1110", 2 / 3),  # one is too many
        ("1000", "0111", 0),
    ],
)  # fmt: skip
def test_accuracy_of_a_frame(reference: str, sampled: str, accuracy: float) -> None:
    x_ND, y_SND = torch.tensor([[c == "1" for c in reference]]), torch.zeros(1, 1, 4)
    y_SND[0, 0] = torch.tensor([float(c) for c in sampled])
    assert frame_accuracy(x_ND, y_SND).tolist() == pytest.approx([accuracy])


def test_accuracy_is_the_mean_over_samples_of_each_frame() -> None:
    x_ND = torch.tensor([[1, 1], [0, 0]])
    y_SND = torch.tensor([[[1, 1], [0, 0]], [[1, 0], [0, 1]], [[0, 0], [0, 0]]])
    assert frame_accuracy(x_ND, y_SND).tolist() == pytest.approx([0.5, 2 / 3])


def test_histories_and_counts() -> None:
    roll_TP = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], np.uint8)
    assert histories(roll_TP, 3)[:, 0].tolist() == [0b00, 0b01, 0b11, 0b10]
    counts = count_notes([roll_TP, roll_TP[:1]], 3)
    assert counts[:, 0].tolist() == [[0, 0, 0, 1], [2, 1, 1, 0]]  # off and on, by history


def test_probabilities_of_every_order() -> None:
    roll_TP = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], np.uint8)
    models = note_ngrams([roll_TP, roll_TP[:1]])
    assert [p.shape for p in models] == [(2, 2**n) for n in range(MAX_ORDER)]
    assert models[0].tolist() == [[5 / 7], [3 / 7]]  # on 4 times of 5, and 2 of 5, with 1 added
    assert models[1][0].tolist() == [4 / 5, 2 / 4]  # after silence 3 of 3, after itself 1 of 2
    assert models[2][0].tolist() == [3 / 4, 2 / 3, 2 / 3, 1 / 3]


def test_baselines_by_hand() -> None:
    """One note that is on in every second frame: only its past predicts it."""
    piece = np.array([[1], [0]] * 50, np.uint8)
    metrics, order = baselines({"train": [piece] * 20, "val": [piece], "test": [piece]})
    assert (list(metrics), order) == (["random", "note_1gram", "note_ngram"], 2)
    for name in ("random", "note_1gram"):
        assert metrics[name][0] == pytest.approx(np.log(0.5))
        assert metrics[name][1] == pytest.approx(0.5, abs=0.05)
    # 1,000 times on after silence and 1,000 times off after the note, with 1 added to each.
    assert metrics["note_ngram"][0] == pytest.approx(np.log(1001 / 1002))
    assert metrics["note_ngram"][1] > 0.99


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "unigram", "ngram", "order", "random_accuracy", "unigram_accuracy"),
    [
        ("Piano_midi", -11.05, -7.50, 10, 3.35, 5.88),
        pytest.param("Nottingham", -10.25, -4.54, 14, 4.53, 20.01, marks=pytest.mark.slow),
        pytest.param("MuseData", -11.51, -7.91, 10, 3.74, 7.72, marks=pytest.mark.slow),
        ("JSB_Chorales", -11.06, -10.26, 8, 4.42, 15.36),
    ],
)
def test_the_published_baselines_are_reproduced(
    real_data: Path, name: str, unigram, ngram, order, random_accuracy, unigram_accuracy
) -> None:
    path = real_data / "icml2012" / f"{name}.mat"
    if not path.exists():
        pytest.skip(f"{name}.mat is not in MUSEGEN_DATA")
    data = RollBenchmark(name, root=path)
    data.setup()
    metrics, best_order = baselines(data.rolls)
    assert abs(best_order - order) <= 1  # JSB: order 7 is as good as the published 8
    log_likelihoods, accuracies = zip(*metrics.values(), strict=True)
    assert log_likelihoods == pytest.approx((-61.00, unigram, ngram), abs=0.006)
    assert 100 * accuracies[0] == pytest.approx(random_accuracy, abs=0.05)
    # Both values are from samples. The exact expectation is 20.00 for Nottingham, 15.40 for JSB.
    assert 100 * accuracies[1] == pytest.approx(unigram_accuracy, abs=0.1)
