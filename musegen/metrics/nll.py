"""Exact means over a split: sums of nats and counts of steps, divided once at the end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class FieldNLL(Metric):
    """Negative log-likelihood (nats) and accuracy per step, for each named field.

    The sums are over all batches and all ranks, with one division at the end, so that the metric
    does not depend on the batch size. `compute` returns `nll` (the sum over the fields), `<field>`
    (the field's negative log-likelihood) and `<field>_accuracy`.
    """

    full_state_update = False

    nll_F: Tensor
    correct_F: Tensor
    steps: Tensor

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__()
        self.fields = tuple(fields)
        zeros_F = torch.zeros(len(self.fields), dtype=torch.float64)
        self.add_state("nll_F", zeros_F.clone(), dist_reduce_fx="sum")
        self.add_state("correct_F", zeros_F.clone(), dist_reduce_fx="sum")
        self.add_state("steps", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, nll_NF: Tensor, correct_NF: Tensor) -> None:
        """Add N steps: their nats per field, and whether the most likely class was right."""
        self.nll_F += nll_NF.sum(0, dtype=torch.float64)
        self.correct_F += correct_NF.sum(0, dtype=torch.float64)
        self.steps += len(nll_NF)

    def compute(self) -> dict[str, Tensor]:
        """The means over all steps so far."""
        return self._means(self.nll_F / self.steps, self.correct_F / self.steps)

    def _means(self, nll_F: Tensor, correct_F: Tensor) -> dict[str, Tensor]:
        result = {"nll": nll_F.sum()}
        for i, field in enumerate(self.fields):
            result[field] = nll_F[i]
            result[f"{field}_accuracy"] = correct_F[i]
        return result


class LabelledNLL(FieldNLL):
    """As `FieldNLL`, and the same metrics of each label that has steps: `nll/mozart` …"""

    nll_GF: Tensor
    correct_GF: Tensor
    steps_G: Tensor

    def __init__(self, fields: Sequence[str], labels: Sequence[str]) -> None:
        super().__init__(fields)
        self.labels = tuple(labels)
        zeros_GF = torch.zeros(len(self.labels), len(self.fields), dtype=torch.float64)
        self.add_state("nll_GF", zeros_GF.clone(), dist_reduce_fx="sum")
        self.add_state("correct_GF", zeros_GF.clone(), dist_reduce_fx="sum")
        self.add_state("steps_G", zeros_GF[:, 0].clone(), dist_reduce_fx="sum")

    def update(self, nll_NF: Tensor, correct_NF: Tensor, label_N: Tensor) -> None:  # type: ignore[override]
        """Add N steps: their nats per field, whether the likeliest class was right, their label."""
        super().update(nll_NF, correct_NF)
        self.nll_GF.index_add_(0, label_N, nll_NF.double())
        self.correct_GF.index_add_(0, label_N, correct_NF.double())
        self.steps_G += torch.bincount(label_N, minlength=len(self.labels))

    def compute(self) -> dict[str, Tensor]:
        """The means over all steps so far, and over those of each label."""
        result = super().compute()
        for label, nll_F, correct_F, steps in zip(
            self.labels, self.nll_GF, self.correct_GF, self.steps_G, strict=True
        ):
            if steps:
                means = self._means(nll_F / steps, correct_F / steps)
                result |= {f"{name}/{label}": value for name, value in means.items()}
        return result
