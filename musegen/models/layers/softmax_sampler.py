"""Sampling from softmax heads: temperature, top-k, top-p."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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
        drawn_B1 = weight_BK.div_(noise_BK).argmax(-1, keepdim=True)
        return (drawn_B1 if class_BK is None else class_BK.gather(-1, drawn_B1)).squeeze(-1)

    @cached_property
    def _numbers(self) -> tuple[Tensor, Tensor]:
        """Temperature and top_p. For one sequence, converting a Python number to a tensor takes as
        long as dividing by it."""
        temperature, top_p = torch.tensor([self.temperature, self.top_p], dtype=torch.float64)
        return temperature, top_p

    def kept(self, logits_BV: Tensor) -> tuple[Tensor, Tensor | None]:
        """Weights proportional to the probabilities, for temperature > 0, and their classes; None
        means all classes in order."""
        temperature, top_p = self._numbers
        if self.temperature != 1:
            logits_BV = logits_BV / temperature
        class_BK = None
        if 0 < self.top_k < logits_BV.shape[-1]:
            logits_BV, class_BK = logits_BV.topk(self.top_k, dim=-1)  # sorted, largest first
        weight_BK = logits_BV.softmax(-1)
        if self.top_p < 1:
            if class_BK is None:
                weight_BK, class_BK = _sorted(weight_BK)
            mass_before_BK = weight_BK.cumsum(-1).sub_(weight_BK)
            weight_BK = weight_BK.masked_fill_(mass_before_BK >= top_p, 0.0)
        return weight_BK, class_BK


def _sorted(weight_BV: Tensor) -> tuple[Tensor, Tensor]:
    """The weights, the largest first, and their classes.

    NumPy's vectorised `argsort` takes an eighth of the time of torch's for 64 rows of 128 classes.
    """
    if not weight_BV.is_cpu or weight_BV.dtype == torch.bfloat16:
        return weight_BV.sort(dim=-1, descending=True)
    class_BV = torch.from_numpy(weight_BV.neg().numpy().argsort(axis=-1))
    return weight_BV.gather(-1, class_BV), class_BV
