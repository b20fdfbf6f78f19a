"""Repeated histories: training data against generated pieces that repeat one note for ever.

A model that generates is conditioned on its own output: once a figure has been repeated for a
while, it predicts that it will be repeated again. Here stretches of the history are replaced by
repeats of the messages before them, while the targets are true. In text: DITTO, Xu et al. 2022,
arXiv 2206.02369. For piano-rolls see `musegen.models.layers.frozen_history`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GAPS, LENGTHS, PERIODS = (16, 128), (8, 128), (1, 5)
"""Smallest and largest number of messages from one place where repeats may start to the next, of a
stretch of repeats, and, as powers of 2, of the repeated figure: an onset and a release are 2."""


def repeat_history(
    x_BTF: Tensor, probability: float, generator: torch.Generator | None = None
) -> Tensor:
    """The messages that a model is conditioned on in training, (B, T, F); not its targets.

    `probability` is that of repeats at each possible place. Message a + i of a stretch that starts
    at a is message a − p + (i mod p), p being its period. Where stretches overlap, the later one is
    used. The sizes of all random tensors are known in advance. Suffix E: a possible place.
    """
    if not probability:
        return x_BTF
    rows, steps, fields = x_BTF.shape
    size = rows, math.ceil(steps / GAPS[0]), 1

    def between(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, size, generator=generator, device=x_BTF.device)

    first_BE1 = between(*GAPS).cumsum(1)
    end_BE1 = first_BE1 + between(*LENGTHS)
    period_BE1 = torch.minimum(2 ** between(*PERIODS), first_BE1 - 1)
    starts_BE1 = torch.rand(size, generator=generator, device=x_BTF.device) < probability
    t_T = torch.arange(steps, device=x_BTF.device)
    inside_BET = starts_BE1 & (first_BE1 <= t_T) & (t_T < end_BE1)
    # The last stretch that contains a message has the greatest start.
    last_BT = torch.where(inside_BET, first_BE1, -1).argmax(1)
    first_BT, period_BT = (z[..., 0].gather(1, last_BT) for z in (first_BE1, period_BE1))
    source_BT = first_BT - period_BT + (t_T - first_BT) % period_BT
    source_BT = torch.where(inside_BET.any(1), source_BT, t_T)
    return x_BTF.gather(1, source_BT[..., None].expand(-1, -1, fields))
