"""Inputs of every pitch: relative to the pitch, so that all pitches share weights, or absolute."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.models.layers.note_age import age_one_hot


class RelativeInputs(nn.Module):
    """The inputs of each of the P pitches d in [low, high), `out_features` numbers:

    - the notes of the window d − `window` … d + `window`;
    - with `pitch_classes`, half the number of notes of each pitch class relative to that of d;
    - which of the `age_buckets` the age of note d is in, one-hot.

    It has no weights.
    """

    class_PK: Tensor

    def __init__(
        self, low: int, high: int, window: int, pitch_classes: bool, age_buckets: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.low, self.high, self.window = low, high, window
        self.pitch_classes, self.age_buckets = pitch_classes, age_buckets
        self.out_features = 2 * window + 1 + 12 * pitch_classes + len(age_buckets)
        class_PK = (torch.arange(low, high)[:, None] + torch.arange(12)) % 12
        self.register_buffer("class_PK", class_PK, persistent=False)

    def forward(self, x_TBD: Tensor, age_TBD: Tensor) -> Tensor:
        """(T, B, P, out_features) from frames and the ages of their notes."""
        window = self.window
        padded_TBZ = F.pad(x_TBD, (window, window))[..., self.low : self.high + 2 * window]
        parts = [padded_TBZ.unfold(-1, 2 * window + 1, 1)]
        if self.pitch_classes:
            octaves_TBZ = F.pad(x_TBD, (0, -x_TBD.shape[-1] % 12))
            count_TBK = octaves_TBZ.unflatten(-1, (-1, 12)).sum(-2)
            parts.append(count_TBK[..., self.class_PK] / 2)
        if self.age_buckets:
            age_TBP = age_TBD[..., self.low : self.high]
            parts.append(age_one_hot(age_TBP, self.age_buckets).to(x_TBD.dtype))
        return torch.cat(parts, dim=-1)


def absolute_inputs(low: int, high: int, visible: int) -> Tensor:
    """(P, 13) for the pitches d in [low, high) of `visible` columns: the pitch class d mod 12,
    one-hot, and the register, from −1 at the lowest column to 1 at the highest."""
    d_P = torch.arange(low, high)
    register_P = 2 * d_P / max(1, visible - 1) - 1
    return torch.cat([F.one_hot(d_P % 12, 12).float(), register_P[:, None]], dim=1)
