"""How the classes of a message are drawn: by the sampler, in a key, and as repeats of a match."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from musegen.models.layers.key_weights import KeyWeights
from musegen.models.layers.message_match import MatchLogits, raised
from musegen.models.layers.softmax_sampler import Sampler

LEAST_LEVEL = 3
"""Matches of fewer messages (four) are drawn like any other class."""


class MessagePicker:
    """Draws the next message of B pieces, field by field: `begin`, then `pick` for each field."""

    def __init__(
        self,
        sampler: Sampler,
        generator: Generator,
        key: KeyWeights | None,
        match_logits: MatchLogits | None,
    ) -> None:
        self.sampler, self.generator, self.key = sampler, generator, key
        self.match_logits = match_logits

    def begin(self, h_BD: Tensor, match_BM: Tensor | None) -> None:
        """Go on to the next message, given the state and the match."""
        if self.match_logits is not None and match_BM is not None:
            level_B, *self.next_FB = match_BM.unbind(1)
            self.gain_FB = self.match_logits.gains(h_BD, match_BM).unbind(1)
            self.follows_B, self.repeats_B = level_B > 0, level_B >= LEAST_LEVEL

    def pick(self, field: int, z_BV: Tensor) -> Tensor:
        """The class of a field, given its logits."""
        if field == 0 and self.key is not None:
            z_BV = self.key.add_to(z_BV)
        if self.match_logits is None:
            return self.sampler(z_BV, self.generator)
        class_B = self.next_FB[field]
        z_BV = raised(z_BV, class_B, self.gain_FB[field], self.follows_B)
        drawn_B = self._repeat_or_draw(z_BV, class_B)
        same_B = drawn_B == class_B
        self.follows_B, self.repeats_B = self.follows_B & same_B, self.repeats_B & same_B
        return drawn_B

    def _repeat_or_draw(self, z_BV: Tensor, class_B: Tensor) -> Tensor:
        """The class of the match with its own probability, otherwise another one by the sampler.

        Each message of a repeat is nearly certain. If a low temperature or `top_p` made them
        certain, a repeat would never end.
        """
        if self.sampler.temperature == 0 or not bool(self.repeats_B.any()):
            return self.sampler(z_BV, self.generator)
        class_B1 = class_B.clamp(max=z_BV.shape[1] - 1)[:, None]
        p_B = z_BV.softmax(-1).gather(1, class_B1)[:, 0]
        uniform_B = torch.rand(p_B.shape, generator=self.generator, device=p_B.device)
        excluded_B1 = torch.where(self.repeats_B, -torch.inf, 0.0)[:, None].to(z_BV.dtype)
        other_B = self.sampler(z_BV.scatter_add(1, class_B1, excluded_B1), self.generator)
        return torch.where(self.repeats_B & (uniform_B < p_B), class_B1[:, 0], other_B)
