"""Exact means over all steps, independent of the batches."""

from __future__ import annotations

import pytest
import torch

from musegen.metrics.nll import FieldNLL, LabelledNLL


def test_means_are_over_steps_and_not_over_batches() -> None:
    metric = FieldNLL(("note", "time"))
    metric.update(torch.tensor([[1.0, 2.0]]), torch.tensor([[True, False]]))
    metric.update(torch.tensor([[4.0, 0.0]] * 3), torch.tensor([[False, False]] * 3))
    metrics = {k: float(v) for k, v in metric.compute().items()}
    assert metrics == {
        "nll": 3.25 + 0.5,
        "note": 3.25,
        "note_accuracy": 0.25,
        "time": 0.5,
        "time_accuracy": 0.0,
    }


def test_an_empty_batch_changes_nothing() -> None:
    metric = FieldNLL(("note",))
    metric.update(torch.tensor([[2.0]]), torch.tensor([[True]]))
    metric.update(torch.empty(0, 1), torch.empty(0, 1, dtype=torch.bool))
    assert float(metric.compute()["nll"]) == 2.0


def test_many_steps_keep_precision() -> None:
    metric = FieldNLL(("note",))
    for _ in range(1000):
        metric.update(torch.full((1000, 1), 0.1), torch.ones(1000, 1))
    assert float(metric.compute()["nll"]) == pytest.approx(0.1, abs=1e-8)


def test_metrics_of_labels_are_means_over_their_steps() -> None:
    metric = LabelledNLL(("note", "time"), ("bach", "haydn", "mozart"))
    nll_NF = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    correct_NF = torch.tensor([[True, False], [False, False], [True, True]])
    metric.update(nll_NF[:2], correct_NF[:2], torch.tensor([2, 0]))
    metric.update(nll_NF[2:], correct_NF[2:], torch.tensor([2]))
    metrics = {k: float(v) for k, v in metric.compute().items()}
    assert metrics["nll"] == 7
    assert metrics["note/mozart"] == 3
    assert metrics["nll/mozart"] == 3 + 4
    assert metrics["time_accuracy/mozart"] == 0.5
    assert metrics["nll/bach"] == 7
    assert not [name for name in metrics if name.endswith("/haydn")]  # no steps
    metric.reset()
    metric.update(nll_NF[:1], correct_NF[:1], torch.tensor([1]))
    assert float(metric.compute()["nll/haydn"]) == 3
