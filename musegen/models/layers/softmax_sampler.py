"""Sampling from softmax heads: temperature, top-k, top-p."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
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

    @property
    def settings(self) -> tuple[float, int, float]:
        """As the compiled loops take them."""
        return float(self.temperature), int(self.top_k), float(self.top_p)

    def __call__(self, logits_BV: Tensor, generator: Generator) -> Tensor:
        """(B, V) logits → (B,) int64 classes. The generator is one of the CPU."""
        # Compiled: loading takes a second.
        from musegen.models.layers.sampling_kernels import draw_rows

        class_B, u_B1 = np.empty(len(logits_BV), np.int64), uniform((len(logits_BV), 1), generator)
        draw_rows(as_array(logits_BV), u_B1, *self.settings, class_B)
        return torch.from_numpy(class_B).to(logits_BV.device)


def as_array(logits_BV: Tensor) -> np.ndarray:
    """Logits as the compiled loops take them; the same numbers in memory if possible."""
    array: np.ndarray = logits_BV.detach().to("cpu", torch.float32).contiguous().numpy()
    return array


def uniform(shape: tuple[int, ...], generator: Generator) -> np.ndarray:
    """Random numbers in [0, 1), float64."""
    u: np.ndarray = torch.rand(shape, generator=generator, dtype=torch.float64).numpy()
    return u
