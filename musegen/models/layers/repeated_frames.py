"""Phrases that return: frames that repeat the longest match are made more probable in sampling.

In generated pieces phrases return less often than in real ones. Matches of a few frames are as
frequent as there, but fewer of them go on: the frames before fit them less well than in a real
piece. So where the last 4 to 31 frames came before, the frame m that followed then has higher odds,

    p(x) ∝ p_model(x) · odds^[x = m].

Longer repeats go on as often as in real pieces by themselves; with higher odds they would not end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from musegen.models.layers.frame_sampler import FrameSampler

FIRST_LEVEL, LAST_LEVEL = 3, 5
"""The levels of matches of 4 and of 31 frames (`musegen.models.layers.longest_match`)."""


def draw_repeating(sampler: FrameSampler, odds: float) -> Tensor:
    """The next frame of each sequence, (N, D)."""
    frame_ND, _ = sampler.draw()
    match = sampler.longest_match() if odds != 1 else None
    if match is None:
        return frame_ND
    level_N, match_ND = match
    raised_N = (level_N >= FIRST_LEVEL) & (level_N <= LAST_LEVEL)
    if not bool(raised_N.any()):
        return frame_ND
    log_prob_N = sampler.log_prob(match_ND[:, None])[:, 0].double()
    p_N = log_prob_N.clamp(max=0).exp()  # an estimate can be more
    wanted_N = odds * p_N / (1 - p_N + odds * p_N)
    # A frame x ≠ m is replaced so often that m has the probability `wanted`.
    replaced_N = (wanted_N - p_N) / (1 - p_N).clamp_min(1e-12)
    uniform_N = torch.rand(
        len(p_N), generator=sampler.generator, device=p_N.device, dtype=p_N.dtype
    )
    takes_N = raised_N & (uniform_N < replaced_N)
    return torch.where(takes_N[:, None], match_ND.to(frame_ND), frame_ND)
