"""Drawing from softmax heads: temperature, top-k, top-p."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from musegen.errors import UserError


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
        weight_BK, class_BK = self.kept(logits_BV)
        # argmax p/e with e ~ Exp(1) draws from p (the Gumbel-max trick), at half the cost of
        # torch.multinomial for one row, and whatever p sums to.
        noise_BK = torch.empty_like(weight_BK).exponential_(generator=generator)
        drawn_B = weight_BK.div_(noise_BK).argmax(-1)
        return drawn_B if class_BK is None else class_BK.gather(-1, drawn_B[..., None])[..., 0]

    def kept(self, logits_BV: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weights in proportion to the probabilities drawn from, for temperature > 0, and the
        classes they belong to; None stands for all classes in order."""
        if self.temperature != 1:
            logits_BV = logits_BV / self.temperature
        class_BK = None
        if 0 < self.top_k < logits_BV.shape[-1]:
            logits_BV, class_BK = logits_BV.topk(self.top_k, dim=-1)  # falling
        weight_BK = logits_BV.softmax(-1)
        if self.top_p < 1:
            if class_BK is None:
                weight_BK, class_BK = weight_BK.sort(dim=-1, descending=True)
            mass_before_BK = weight_BK.cumsum(-1).sub_(weight_BK)
            weight_BK = weight_BK.masked_fill(mass_before_BK >= self.top_p, 0.0)
        return weight_BK, class_BK
