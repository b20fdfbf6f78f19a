"""Note age: the number of frames for which a note has sounded. It helps to predict its end."""

from __future__ import annotations

import torch
from torch import Tensor

AGE_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""The smallest age of each bucket, in frames; the last bucket has no upper limit."""
FINE_AGE_BUCKETS = (*range(1, 19), 24, 25, 32, 33)
"""Up to two bars of eighth notes every age has its own bucket, and so have the whole bars after
them."""


def note_ages(x_BTD: Tensor, carried_BD: Tensor | None = None) -> Tensor:
    """The number of frames each note has sounded, the current one included; 0 if it is silent.

    Returns (B, T, D) int64. `carried_BD` are the ages in the frame before the first. With it a
    sequence can be processed in parts: pass the ages of the last frame of the part before.
    """
    steps = x_BTD.shape[1]
    t_T1 = torch.arange(steps, device=x_BTD.device)[:, None]
    before_BD = x_BTD.new_zeros(x_BTD.shape[::2], dtype=torch.int64)
    if carried_BD is not None:
        before_BD = carried_BD
    # The last silent frame up to t. It is negative for a note that sounds since before frame 0.
    silent_BTD = torch.where(x_BTD > 0, -1 - before_BD[:, None], t_T1)
    return t_T1 - silent_BTD.cummax(1).values


def age_buckets(age: Tensor, buckets: tuple[int, ...] = AGE_BUCKETS) -> Tensor:
    """0 for a silent note, otherwise 1 + the index of the bucket of its age; int64, same shape."""
    # Built on the device: copying a tensor to a GPU would make the CPU wait for it.
    smallest = torch.stack([age.new_full((), least) for least in buckets])
    return torch.bucketize(age.contiguous(), smallest, right=True)


def age_one_hot(age: Tensor, buckets: tuple[int, ...] = AGE_BUCKETS) -> Tensor:
    """(…, number of buckets) float: 1 in the bucket of the age; zeros for a silent note."""
    bucket = torch.arange(1, len(buckets) + 1, device=age.device)
    return (age_buckets(age, buckets)[..., None] == bucket).float()
