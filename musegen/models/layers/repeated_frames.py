"""Phrases that return: frames that repeat the longest match are made more probable in sampling.

In generated pieces phrases return less often than in real ones. A match of a few frames is found as
often as there, but each of the first repeated frames is a little less probable, because the frames
before fit it less well than in a real piece. So where the last eight frames or more came before,
the frame m that followed then has higher odds,

    p(x) ∝ p_model(x) · odds^[x = m].

Longer repeats go on as often as in real pieces, and a loop has no match
(`musegen.models.layers.longest_match`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from musegen.models.layers.frame_sampler import FrameSampler

LEAST_LEVEL = 4
"""The level of matches of eight frames."""


def draw_repeating(sampler: FrameSampler, odds: float) -> Tensor:
    """The next frame of each sequence, (N, D)."""
    frame_ND, _ = sampler.draw()
    match = sampler.longest_match() if odds != 1 else None
    if match is None:
        return frame_ND
    level_N, match_ND = match
    if not bool((level_N >= LEAST_LEVEL).any()):
        return frame_ND
    p_N = (
        sampler.log_prob(match_ND[:, None])[:, 0].double().exp().clamp(max=1)
    )  # an estimate can be more
    raised_N = odds * p_N / (1 - p_N + odds * p_N)
    # A frame x ≠ m is replaced so often that m has the probability `raised`.
    replaced_N = (raised_N - p_N) / (1 - p_N).clamp_min(1e-12)
    uniform_N = torch.rand(
        len(p_N), generator=sampler.generator, device=p_N.device, dtype=p_N.dtype
    )
    takes_N = (level_N >= LEAST_LEVEL) & (uniform_N < replaced_N)
    return torch.where(takes_N[:, None], match_ND.to(frame_ND), frame_ND)
