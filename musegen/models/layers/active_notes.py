"""The notes that sound after each message, and for how many messages, as inputs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def message_ages(x_BTF: Tensor, before_BP: Tensor) -> Tensor:
    """age_BTP after each message, from the ages before the first.

    The age of a silent pitch is 0, otherwise the number of messages since its onset, from 1 on.
    """
    note_BT, onset_BT = x_BTF[..., 0], (x_BTF[..., 1] > 0).to(before_BP.dtype)
    # One additional column for the class "before the piece"; it is cut off below.
    age_BP = F.pad(before_BP, (0, 1))
    after = []
    for t in range(note_BT.shape[1]):
        older_BP = age_BP + age_BP.sign()
        age_BP = older_BP.scatter(1, note_BT[:, t : t + 1], onset_BT[:, t : t + 1])
        after.append(age_BP)
    return torch.stack(after, dim=1)[..., :-1]


def next_ages(x_BF: Tensor, age_BP: Tensor) -> Tensor:
    """`message_ages` after one message of a piece."""
    note_B1, velocity_B1, _ = x_BF.split_with_sizes((1, 1, 1), 1)
    onset_B1 = velocity_B1.sign().to(age_BP.dtype)
    return (age_BP + age_BP.sign()).scatter_(1, note_B1, onset_B1)


def active_features(age_P: Tensor) -> Tensor:
    """(…, P) ages → (…, Q = 2P): whether each pitch sounds, and the logarithm of its age."""
    return torch.cat([age_P.sign(), age_P.clamp_min(1).log()], dim=-1)
