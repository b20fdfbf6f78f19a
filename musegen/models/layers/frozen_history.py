"""Frozen histories: training data against generated pieces that get stuck on one chord.

A model that generates is conditioned on its own output. Once a chord has been repeated for a while,
a model that was trained on real music only predicts that it will be repeated again. Here parts of
the history are frozen in training, while the targets are the true frames. So the model learns to
continue after a repeated chord. In text: DITTO, Xu et al. 2022, arXiv 2206.02369.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GAPS, LENGTHS = (8, 64), (4, 95)
"""Smallest and largest number of frames from one place where a freeze may start to the next, and
of a freeze."""
LOW_ONLY, HIGH_ONLY = 0.5, 0.2
"""Fractions of the freezes that freeze the low pitches only, and the high pitches only."""


def freeze_history(
    x_BTD: Tensor,
    mask_BT: Tensor,
    low_pitches: int,
    frozen: float,
    flipped: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The frames that a model is conditioned on in training, (B, T, D); not its targets.

    - low_pitches: the number of columns that count as low: those below middle C.
    - frozen: the probability that a freeze starts at each possible place. The places are `GAPS`
      frames apart. A freeze lasts `LENGTHS` frames, which are all replaced by the true frame
      before them, in the low columns, in the high columns or in both. If freezes overlap, the
      later one is used.
    - flipped: the fraction of all notes of the frames that is flipped.

    Padding remains silent. The sizes of all random tensors are known in advance, so that the CPU
    does not wait for a GPU.
    """
    if not frozen and not flipped:
        return x_BTD
    history_BTD = x_BTD
    if frozen:
        history_BTD = _freeze(x_BTD, low_pitches, frozen, generator)
    if flipped:
        uniform_BTD = torch.rand(x_BTD.shape, generator=generator, device=x_BTD.device)
        history_BTD = torch.where(uniform_BTD < flipped, 1 - history_BTD, history_BTD)
    return history_BTD * mask_BT[..., None]


def _freeze(
    x_BTD: Tensor, low_pitches: int, probability: float, generator: torch.Generator | None
) -> Tensor:
    """The frames, some of them frozen. Suffix E: a place where a freeze may start."""
    rows, steps, _ = x_BTD.shape
    size = rows, math.ceil(steps / GAPS[0]), 1

    def between(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, size, generator=generator, device=x_BTD.device)

    def uniform() -> Tensor:
        return torch.rand(size, generator=generator, device=x_BTD.device)

    first_BE1 = between(*GAPS).cumsum(1)
    end_BE1 = first_BE1 + between(*LENGTHS)
    kind_BE1, starts_BE1 = uniform(), uniform() < probability
    t_T = torch.arange(steps, device=x_BTD.device)
    frozen_BET = starts_BE1 & (first_BE1 <= t_T) & (t_T < end_BE1)
    parts = []
    for part_BTD, affected_BE1 in (
        (x_BTD[..., :low_pitches], (kind_BE1 < LOW_ONLY) | (kind_BE1 >= LOW_ONLY + HIGH_ONLY)),
        (x_BTD[..., low_pitches:], kind_BE1 >= LOW_ONLY),
    ):
        # The source of each frame: the frame before the last freeze that contains it, or itself.
        source_BT = torch.where(frozen_BET & affected_BE1, first_BE1 - 1, -1).amax(1)
        source_BT = torch.where(source_BT < 0, t_T, source_BT)
        parts.append(part_BTD.gather(1, source_BT[..., None].expand_as(part_BTD)))
    return torch.cat(parts, dim=-1)
