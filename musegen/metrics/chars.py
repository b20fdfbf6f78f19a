"""Negative log-likelihood of characters, in nats, bits and as perplexity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from musegen.metrics.nll import FieldNLL


class CharNLL(FieldNLL):
    """Nats and bits per character, perplexity and accuracy over a split.

    The end of a text counts as a character, since it is predicted as well.
    """

    def __init__(self) -> None:
        super().__init__(["char"])

    def compute(self) -> dict[str, Tensor]:
        """`nll` in nats, `bpc` = nll / log 2, `perplexity` = exp(nll), and `accuracy`."""
        means = super().compute()
        nll = means["nll"]
        return {
            "nll": nll,
            "bpc": nll / math.log(2),
            "perplexity": torch.exp(nll),
            "accuracy": means["char_accuracy"],
        }
