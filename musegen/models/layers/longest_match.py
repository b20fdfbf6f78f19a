"""The longest match in a piece's past: what followed when these frames sounded before.

Pieces repeat themselves exactly: in MuseData's validation pieces, the last eight frames occurred
before in the same piece in 23 % of all frames, and in 96 % of these cases the next frame was the
same as then. Data compression predicts from such matches (the deterministic contexts of PPM, Cleary
and Teahan 1997; the match model of PAQ, Mahoney 2005).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.runtime.random_streams import Stream, torch_stream

LEVELS = 6
"""The length of a match is known as its level: 0 for none, l for at least 2^(l − 1) frames."""
LONGEST = 2 ** (LEVELS - 1)
"""Longer matches count as equally long."""
LEAST_LAG = 8
"""A match ends at least so many frames earlier."""
LOOP_PERIOD, LOOP_FRAMES = 16, 24
"""A figure of at most `LOOP_PERIOD` frames that has gone on for `LOOP_FRAMES` frames and two more
periods is a loop."""
BLOCK = 512
"""Number of frames that are compared with all earlier ones at the same time."""


class MatchFinder(nn.Module):
    """Finds the longest match; it has no weights.

    The context of frame t are the frames before it, …, x(t − 2), x(t − 1). Among the earlier
    positions s ≤ t − `LEAST_LAG`, the match is the one with the most equal frames x(s − 1) =
    x(t − 1), x(s − 2) = x(t − 2), …, by level, and the latest of these. x(s − 1) comes before the
    notes of x(t − 1) began to be held unchanged: otherwise a long chord would confirm itself. So
    would a loop, and there is no match in one (`in_loop`): of 652,885 frames of training and
    validation pieces of the four data sets 0.1 % are in a loop.
    """

    key_D: Tensor

    def __init__(self, visible: int) -> None:
        super().__init__()
        generator = torch_stream(Stream.FRAME_KEYS, 0)
        key_D = torch.randint(-(2**62), 2**62, (visible,), generator=generator)
        self.register_buffer("key_D", key_D, persistent=False)

    @torch.no_grad()
    def forward(self, x_BSD: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The level of the match for the frame after each of the last `steps` frames, (B, T), and
        the frame x(s) that followed it then, (B, T, D), silent where there is no match."""
        size = x_BSD.shape[1]
        # Sums of random numbers instead of frames: equal for different frames with p < 10⁻¹⁸.
        id_BS = (x_BSD > 0).long().mul(self.key_D).sum(-1)
        best = [
            self._best(id_BS[:, :end], end - start)
            for start, end in ((t, min(t + BLOCK, size)) for t in range(size - steps, size, BLOCK))
        ]
        level_BT, place_BT = (torch.cat(part, dim=1) for part in zip(*best, strict=True))
        level_BT = level_BT * ~in_loop(id_BS, steps)
        next_BTD = x_BSD.gather(1, place_BT[..., None].expand(-1, -1, x_BSD.shape[2]))
        return level_BT, next_BTD * (level_BT > 0)[..., None]

    def _best(self, id_BS: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Level and index of the frame that followed, for each of the last `steps` frames."""
        size = id_BS.shape[1]
        rows = min(size, steps + LONGEST - 1)
        # equal_BRS[r, s]: the frames up to r and those up to s agree over 1, 2, 4, … frames.
        equal_BRS = id_BS[:, -rows:, None] == id_BS[:, None]
        level_BRS = equal_BRS.to(torch.int32)
        for doubling in range(LEVELS - 1):
            n = 2**doubling
            equal_BRS = equal_BRS & F.pad(equal_BRS, (n, 0, n, 0))[:, :-n, :-n]
            level_BRS += equal_BRS
        place_S = torch.arange(size, device=id_BS.device, dtype=torch.int32)
        # Where the present frames started to be held; 0 for the first frame.
        changed_BS = F.pad(id_BS[:, 1:] != id_BS[:, :-1], (1, 0))
        held_since_BS = (place_S * changed_BS).cummax(-1).values
        latest_BT = torch.minimum(place_S - LEAST_LAG, held_since_BS - 1)[:, -steps:]
        early_BTS = place_S <= latest_BT[..., None]
        # The highest level, then the latest place; 0 for no match.
        score_BTS = (level_BRS[:, -steps:] * size + place_S) * early_BTS
        best_BT = score_BTS.amax(-1)
        level_BT, place_BT = best_BT // size, best_BT % size + 1
        return level_BT.long(), place_BT.clamp(max=size - 1).long()


def in_loop(id_BS: Tensor, steps: int) -> Tensor:
    """Whether a loop has come to each of the last `steps` frames, (B, T), bool.

    With a period p ≤ `LOOP_PERIOD`, the last max(`LOOP_FRAMES`, 2 p) frames equal those p before
    them.
    """
    id_BS = id_BS[:, -(steps + LOOP_FRAMES + 2 * LOOP_PERIOD) :]
    place_S = torch.arange(id_BS.shape[1], device=id_BS.device)
    loop_BS = torch.zeros_like(id_BS, dtype=torch.bool)
    for period in range(1, min(LOOP_PERIOD, id_BS.shape[1] - 1) + 1):
        differs_BS = torch.ones_like(loop_BS)
        differs_BS[:, period:] = id_BS[:, period:] != id_BS[:, :-period]
        equal_BS = place_S - (place_S * differs_BS).cummax(-1).values
        loop_BS = loop_BS | (equal_BS >= max(LOOP_FRAMES, 2 * period))
    return loop_BS[:, -steps:]


class LongestMatch(nn.Module):
    """Features of the longest match at every pitch, with weights that all pitches share.

    With the match's level l and the frame x(s) that followed it,

        m(t, d) = A(l) + x(s, d) B(l),

    where A and B are learned. The result is (B, T, P, `features`) for the pitches d in
    [low, high).
    """

    def __init__(self, visible: int, low: int, high: int, features: int) -> None:
        super().__init__()
        self.low, self.high = low, high
        self.finder = MatchFinder(visible)
        self.level = nn.Embedding(LEVELS + 1, features)
        self.followed = nn.Embedding(LEVELS + 1, features)

    def forward(self, x_BSD: Tensor, steps: int) -> Tensor:
        """m of the frames that follow each of the last `steps` of the frames x_BSD."""
        level_BT, next_BTD = self.finder(x_BSD, steps)
        next_BTP1 = next_BTD[..., self.low : self.high, None].to(self.level.weight.dtype)
        return self.level(level_BT)[:, :, None] + next_BTP1 * self.followed(level_BT)[:, :, None]


class MatchInput(nn.Module):
    """The longest match as an input, (B, T, `out_features`): its level l, one-hot, and the frame
    that followed it, times a learned gain of this level."""

    def __init__(self, visible: int) -> None:
        super().__init__()
        self.finder = MatchFinder(visible)
        self.gain = nn.Parameter(torch.linspace(0, 1, LEVELS + 1))
        self.out_features = LEVELS + 1 + visible

    def forward(self, x_BSD: Tensor, steps: int) -> Tensor:
        """The inputs for the frames that follow each of the last `steps` of the frames x_BSD."""
        level_BT, next_BTD = self.finder(x_BSD, steps)
        one_hot_BTL = F.one_hot(level_BT, LEVELS + 1).to(self.gain.dtype)
        return torch.cat([one_hot_BTL, next_BTD * self.gain[level_BT][..., None]], dim=-1)
