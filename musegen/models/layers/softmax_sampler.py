"""Sampling from softmax heads: temperature, top-k, top-p."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from musegen.constraints import NonNegativeInt, PositiveFraction, Temperature, check_fields


@dataclass(frozen=True)
class Sampler:
    """Draws a class from logits.

    - temperature: the logits are divided by it; 0 takes the most likely class.
    - top_k: keep only the k most likely classes (0: all).
    - top_p: keep only the smallest set of classes whose probability reaches p (1: all), "nucleus
      sampling" (Holtzman et al. 2020).

    Raises `UserError` for values out of range.
    """

    temperature: Temperature = 1.0
    top_k: NonNegativeInt = 0
    top_p: PositiveFraction = 1.0

    def __post_init__(self) -> None:
        check_fields(self)

    def __call__(self, logits_BV: Tensor, generator: Generator | None = None) -> Tensor:
        """(B, V) logits → (B,) int64 classes."""
        if self.temperature == 0:
            return logits_BV.argmax(-1)
        weight_BK, class_BK = self.kept(logits_BV)
        # argmax p/e with e ~ Exp(1) draws from p (the Gumbel-max trick). For one sequence it takes
        # half the time of torch.multinomial, and p need not sum to 1.
        noise_BK = torch.empty_like(weight_BK).exponential_(generator=generator)
        drawn_B = weight_BK.div_(noise_BK).argmax(-1)
        return drawn_B if class_BK is None else class_BK.gather(-1, drawn_B[..., None])[..., 0]

    def kept(self, logits_BV: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weights proportional to the probabilities, for temperature > 0, and their classes; None
        means all classes in order."""
        if self.temperature != 1:
            logits_BV = logits_BV / self.temperature
        class_BK = None
        if 0 < self.top_k < logits_BV.shape[-1]:
            logits_BV, class_BK = logits_BV.topk(self.top_k, dim=-1)  # sorted, largest first
        weight_BK = logits_BV.softmax(-1)
        if self.top_p < 1:
            if class_BK is None:
                weight_BK, class_BK = weight_BK.sort(dim=-1, descending=True)
            mass_before_BK = weight_BK.cumsum(-1).sub_(weight_BK)
            weight_BK = weight_BK.masked_fill(mass_before_BK >= self.top_p, 0.0)
        return weight_BK, class_BK
