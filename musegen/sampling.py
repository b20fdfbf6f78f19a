"""Drawing from softmax heads: temperature, top-k, top-p."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from musegen.contracts import UserError


@dataclass(frozen=True)
class Sampler:
    """How to draw a class from logits.

    - temperature: logits are divided by it; 0 takes the most likely class.
    - top_k: only the k most likely classes stay (0: all).
    - top_p: only the smallest set of classes whose probability reaches p stays (1: all),
      "nucleus sampling" (Holtzman et al. 2020).

    Raises `UserError` for values out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UserError(f"temperature={self.temperature}: must be 0 or greater")
        if self.top_k < 0:
            raise UserError(f"top_k={self.top_k}: must be 0 (all classes) or greater")
        if not 0 < self.top_p <= 1:
            raise UserError(f"top_p={self.top_p}: must be above 0 and at most 1")

    def __call__(self, logits_BV: Tensor, generator: Generator | None = None) -> Tensor:
        """(B, V) logits → (B,) int64 classes."""
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        probs_BV = self.probabilities(logits_BV)
        # argmax p/e with e ~ Exp(1) draws from p (the Gumbel-max trick), at half the cost of
        # torch.multinomial for one row.
        noise_BV = torch.empty_like(probs_BV).exponential_(generator=generator)
        return probs_BV.div_(noise_BV).argmax(-1)

    def probabilities(self, logits_BV: Tensor) -> Tensor:
        """The distribution that is drawn from, for temperature > 0."""
        if self.temperature != 1:
            logits_BV = logits_BV / self.temperature
        if 0 < self.top_k < logits_BV.shape[-1]:
            least_B1 = logits_BV.topk(self.top_k, dim=-1).values[..., -1:]
            logits_BV = logits_BV.masked_fill(logits_BV < least_B1, float("-inf"))
        probs_BV = logits_BV.softmax(-1)
        if self.top_p < 1:
            sorted_BV, order_BV = probs_BV.sort(dim=-1, descending=True)
            mass_before_BV = sorted_BV.cumsum(-1) - sorted_BV
            sorted_BV = sorted_BV.masked_fill(mass_before_BV >= self.top_p, 0.0)
            probs_BV = torch.zeros_like(probs_BV).scatter(-1, order_BV, sorted_BV)
            probs_BV /= probs_BV.sum(-1, keepdim=True)
        return probs_BV
