"""Evaluation of exact models against a model whose probabilities are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from musegen.metrics.roll_evaluation import (
    PieceFrames,
    by_context,
    by_shared_top_line,
    piece_table,
    pooled,
    predicted_pieces,
    repeated_contexts,
    report,
    shared_top_lines,
    top_line,
)
from musegen.specs import RollBatch


class IndependentNotes:
    """Every note sounds with probability p, independently of all others."""

    p = 0.25

    def log_prob(self, batch: RollBatch) -> torch.Tensor:
        log_p = batch.x_BTD * math.log(self.p) + (1 - batch.x_BTD) * math.log(1 - self.p)
        return log_p.sum(-1)

    def sample_frames(self, batch: RollBatch, samples: int, generator) -> torch.Tensor:
        x_ND = batch.x_BTD[batch.mask_BT]
        return (torch.rand(samples, *x_ND.shape, generator=generator) < self.p).float()


def one_batch() -> RollBatch:
    x_BTD = torch.zeros(2, 3, 2)
    x_BTD[0, :, 0] = 1
    mask_BT = torch.tensor([[True] * 3, [True, False, False]])
    return RollBatch(x_BTD, mask_BT)


def test_every_frame_is_counted_once() -> None:
    pieces = predicted_pieces(IndependentNotes(), [one_batch()], samples=4000)
    assert [len(p.log_prob_T) for p in pieces] == [3, 1]
    one, none = math.log(0.25 * 0.75), 2 * math.log(0.75)
    found = pooled(pieces)
    assert found["log_likelihood"] == pytest.approx((3 * one + none) / 4)
    # A frame of one note: the right note alone has probability 3/16 and accuracy 1, both notes
    # have 1/16 and ½. A silent frame: silence has probability 9/16 and accuracy 1.
    accuracy_one = 3 / 16 + 0.5 / 16
    assert found["accuracy"] == pytest.approx((3 * accuracy_one + 9 / 16) / 4, abs=0.01)
    assert found["frames"] == 4
    deviation = 3 * (one - found["log_likelihood"])
    assert found["log_likelihood_error"] == pytest.approx(2 * abs(deviation) / 4)
    table = piece_table(pieces)
    assert table[0]["log_likelihood"] == pytest.approx(one)
    assert table[1]["log_likelihood"] == pytest.approx(none)
    assert (table[1]["piece"], table[1]["frames"]) == (1, 1)
    without = predicted_pieces(IndependentNotes(), [one_batch()], samples=0)
    assert "accuracy" not in pooled(without)


def a_line(pitches: list[int]) -> np.ndarray:
    """One note per frame and a low note below it; −1 is silence."""
    x_TD = np.zeros((len(pitches), 6), bool)
    for t, pitch in enumerate(pitches):
        if pitch >= 0:
            x_TD[t, [0, pitch]] = True
    return x_TD


def test_repeated_contexts() -> None:
    x_TD = a_line([1, 2, 3, 1, 2, 4, 1, 2])
    found = repeated_contexts(x_TD, context=2).tolist()
    assert found == [False] * 5 + [True] + [False] * 2
    # (1, 2) is repeated before frame 5; (2, 4) and (4, 1) are new.
    log_prob_T = np.arange(8.0)
    values = by_context([PieceFrames(x_TD, log_prob_T, None)], context=2)
    assert values["repeated_context"] == pytest.approx(1 / 8)
    assert values["log_likelihood_repeated_context"] == 5
    assert values["log_likelihood_new_context"] == pytest.approx((28 - 5) / 7)


def test_top_lines_shared_with_training_pieces() -> None:
    assert top_line(a_line([3, -1, 5])).tolist() == [3, -1, 5]
    training = [a_line([1, 2, 3, 4]), a_line([5, 5])]
    pieces = [a_line([2, 3, 4]), a_line([1, 2, 3, 1]), a_line([4, 4, 4]), a_line([1])]
    shared = shared_top_lines(pieces, training, window=3)
    assert shared == [1.0, 0.5, 0.0, 0.0]
    predicted = [
        PieceFrames(x_TD, np.full(len(x_TD), float(i)), None) for i, x_TD in enumerate(pieces)
    ]
    values = by_shared_top_line(predicted, training, window=3)
    assert values["pieces_unshared"] == 2
    assert values["log_likelihood_unshared"] == pytest.approx((3 * 2 + 3) / 4)
    assert values["pieces_mostly_unshared"] == 3
    assert values["log_likelihood_mostly_unshared"] == pytest.approx((4 + 6 + 3) / 8)


def test_the_report_contains_all_metrics() -> None:
    pieces = predicted_pieces(IndependentNotes(), [one_batch()], samples=2)
    assert "pieces_unshared" not in report(pieces)
    assert {"log_likelihood", "accuracy", "frames", "repeated_context", "pieces_unshared"} <= set(
        report(pieces, [np.ones((20, 2))])
    )
