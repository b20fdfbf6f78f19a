"""Likelihood of characters, in the units that people quote."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from musegen.metrics.nll import FieldLikelihood


class CharLikelihood(FieldLikelihood):
    """Nats and bits per character, perplexity and accuracy over a split.

    A text's end counts as one of its characters: it has to be predicted too.
    """

    def __init__(self) -> None:
        super().__init__(["char"])

    def compute(self) -> dict[str, Tensor]:
        mean = super().compute()
        nats = mean["nll"]
        return {
            "nll": nats,
            "bpc": nats / math.log(2),
            "perplexity": torch.exp(nats),
            "accuracy": mean["char_accuracy"],
        }
