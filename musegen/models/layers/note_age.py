"""How long each sounding note has sounded: what says best when a chord is about to change."""

from __future__ import annotations

import torch
from torch import Tensor

AGE_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""The least age of each bucket, in frames; the last one holds all greater ages too."""


def note_ages(x_BTD: Tensor, carried_BD: Tensor | None = None) -> Tensor:
    """For how many frames each note has sounded, up to and including this one; 0 if silent.

    (B, T, D) int64. `carried_BD` holds the ages in the frame before the first, so that a sequence
    can be read in parts: the ages of a part's last frame are carried to the next part.
    """
    steps = x_BTD.shape[1]
    t_T1 = torch.arange(steps, device=x_BTD.device)[:, None]
    before_BD = x_BTD.new_zeros(x_BTD.shape[::2], dtype=torch.int64)
    if carried_BD is not None:
        before_BD = carried_BD
    # The last silent frame up to each t; a note that sounds since before the first began there.
    silent_BTD = torch.where(x_BTD > 0, -1 - before_BD[:, None], t_T1)
    return t_T1 - silent_BTD.cummax(1).values


def age_buckets(age: Tensor) -> Tensor:
    """0 for a silent note, else 1 + the index of its age's bucket; int64, of the same shape."""
    # Filled on the device: to send them there would let a GPU wait.
    least = torch.stack([age.new_full((), least) for least in AGE_BUCKETS])
    return torch.bucketize(age.contiguous(), least, right=True)


def age_one_hot(age: Tensor) -> Tensor:
    """(…, 10) float: 1 in the bucket of the age, nothing for a silent note."""
    bucket = torch.arange(1, len(AGE_BUCKETS) + 1, device=age.device)
    return (age_buckets(age)[..., None] == bucket).float()
