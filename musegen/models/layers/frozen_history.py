"""Histories that stand still on purpose, as training data: the remedy against chords that stand.

A model that composes reads what it wrote. When that has stood still for a while, a model that has
only read real music believes that it will go on standing. Trained on histories some parts of which
were frozen, with the true frames as targets, it learns to move on (in text: DITTO, Xu et al. 2022,
arXiv 2206.02369).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GAPS, LENGTHS = (8, 64), (4, 95)
"""Frames from one place where a freeze may begin to the next, and frames that it lasts."""
LOW_ONLY, HIGH_ONLY = 0.5, 0.2
"""Of the freezes, the fraction that hold the low pitches alone, and the high ones alone."""


def freeze_history(
    x_BTD: Tensor,
    mask_BT: Tensor,
    low_pitches: int,
    frozen: float,
    flipped: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The frames as a model reads them in training, (B, T, D); its targets stay as they are.

    - low_pitches: how many columns count as low, those below middle C.
    - frozen: with this probability a freeze begins at each of the places, which lie `GAPS` frames
      apart: the frames of the next `LENGTHS` are replaced by the true frame before them, in their
      low columns, their high ones or both. Of freezes that overlap the later one counts.
    - flipped: of all units of real frames, the fraction that is flipped.

    Padding stays silent. All draws have sizes that are known beforehand: no GPU is waited for.
    """
    if not frozen and not flipped:
        return x_BTD
    rows, steps, pitches = x_BTD.shape
    device = x_BTD.device
    places = math.ceil(steps / GAPS[0])

    def between(low: int, high: int) -> Tensor:
        size = (rows, places)
        return torch.randint(low, high + 1, size, generator=generator, device=device)

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator, device=device)

    read_BTD = x_BTD
    if frozen:
        first_BE1 = between(*GAPS).cumsum(1)[..., None]
        end_BE1 = first_BE1 + between(*LENGTHS)[..., None]
        kind_BE1, starts_BE1 = uniform(rows, places, 1), uniform(rows, places, 1) < frozen
        t_T = torch.arange(steps, device=device)
        holds_BET = starts_BE1 & (first_BE1 <= t_T) & (t_T < end_BE1)
        halves = []
        for part_BTD, held_BE1 in (
            (x_BTD[..., :low_pitches], (kind_BE1 < LOW_ONLY) | (kind_BE1 >= LOW_ONLY + HIGH_ONLY)),
            (x_BTD[..., low_pitches:], kind_BE1 >= LOW_ONLY),
        ):
            # Each frame is read from the frame before the last freeze that holds it, or itself.
            from_BT = torch.where(holds_BET & held_BE1, first_BE1 - 1, -1).amax(1)
            from_BT = torch.where(from_BT < 0, t_T, from_BT)
            halves.append(part_BTD.gather(1, from_BT[..., None].expand_as(part_BTD)))
        read_BTD = torch.cat(halves, dim=-1)
    if flipped:
        flips_BTD = uniform(rows, steps, pitches) < flipped
        read_BTD = torch.where(flips_BTD, 1 - read_BTD, read_BTD)
    return read_BTD * mask_BT[..., None]
