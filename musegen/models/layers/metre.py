"""The metre as an input: the clock, and how often notes started whole periods earlier.

Beats and bars come at equal distances, but where they are differs between pieces, and the clock
knows only the number of frames since the first one. Comb filters find the beat of sound in the same
way (Scheirer, "Tempo and beat analysis of acoustic musical signals", JASA 1998).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.models.layers.clock import PERIODS, clock_one_hot

COMB_PERIODS = (2, 3, 4, 6, 8, 12, 16, 24)
"""In frames."""
TEETH = 4
"""The number of earlier periods that a comb reads."""
REACH = TEETH * max(COMB_PERIODS)
VOICES = 2


class MetreInput(nn.Module):
    """What is known of the metre at each frame, `out_features` numbers. It has no weights.

    - With `clock`, the number t of the frame modulo 2, 4, 8 and 16, one-hot.
    - With `combs`, for each period p of `COMB_PERIODS` and each voice v, the notes below middle C
      and the others,

          m(t, p, v) = Σ_k o(t − k p, v) / Σ_k 1,   k = 1 … `TEETH`, for frames of the piece only,

      where o(t, v) is whether a note of the voice starts in frame t; and the mean of o over the
      last max(p) frames.
    """

    def __init__(self, clock: bool, combs: bool, low_pitches: int) -> None:
        super().__init__()
        self.clock, self.combs, self.low_pitches = clock, combs, low_pitches
        self.out_features = sum(PERIODS) * clock + VOICES * (len(COMB_PERIODS) + 1) * combs

    def forward(self, x_BSD: Tensor, steps: int, first: int = 0) -> Tensor:
        """(B, T, out_features) for the frames after each of the last `steps` frames of x_BSD.

        x_BSD begins with the silent frame before the piece, or is at least `REACH` frames longer
        than `steps`; of the frames of the result, the first has the number `first`.
        """
        parts = []
        if self.clock:
            clock_TZ = clock_one_hot(steps, first, device=x_BSD.device).to(x_BSD.dtype)
            parts.append(clock_TZ.expand(len(x_BSD), -1, -1))
        if self.combs:
            parts.append(combs(x_BSD, steps, self.low_pitches))
        return torch.cat(parts, dim=-1)


@torch.no_grad()
def combs(x_BSD: Tensor, steps: int, low_pitches: int) -> Tensor:
    """m, (B, T, Z), by period and voice, and the means."""
    on_BSD = x_BSD[:, -(steps + REACH) :] > 0
    starts_BSD = on_BSD & ~F.pad(on_BSD, (0, 0, 1, 0))[:, :-1]
    if x_BSD.shape[1] > on_BSD.shape[1]:  # whether notes start in the first frame is not known
        starts_BSD[:, 0] &= ~(x_BSD[:, -(steps + REACH) - 1] > 0)
    low_BSD, high_BSD = starts_BSD[..., :low_pitches], starts_BSD[..., low_pitches:]
    # The third column counts the frames of the piece.
    ones_BS = torch.ones_like(on_BSD[..., 0])
    o_BSV = torch.stack([low_BSD.any(-1), high_BSD.any(-1), ones_BS], dim=-1).to(x_BSD.dtype)
    o_BSV = F.pad(o_BSV, (0, 0, REACH, 0))
    after = o_BSV.shape[1] + 1 - steps

    def mean(distances: range) -> Tensor:
        """The mean of o over the frames at these distances before each frame."""
        parts = [o_BSV[:, after - d : after - d + steps] for d in distances]
        sum_BTV = torch.stack(parts).sum(0)
        return sum_BTV[..., :VOICES] / sum_BTV[..., VOICES:].clamp_min(1)

    means = [mean(range(p, TEETH * p + 1, p)) for p in COMB_PERIODS]
    return torch.cat([*means, mean(range(1, max(COMB_PERIODS) + 1))], dim=-1)
