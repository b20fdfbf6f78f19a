"""How the classes of a message are drawn: by the sampler, in a key, and as repeats of a match."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor

from musegen.models.layers.key_weights import KeyWeights
from musegen.models.layers.message_match import MatchLogits
from musegen.models.layers.softmax_sampler import Sampler, as_array, uniform

LEAST_LEVEL = 3
"""Matches of fewer messages (four) are drawn like any other class."""
CALLS = 64
"""For one piece, drawing random numbers takes longer than using them."""


class MessagePicker:
    """Draws the next message of B pieces, field by field: `begin`, then `pick` for each field.

    The class of a match is drawn with its own probability, otherwise another one by the sampler.
    Each message of a repeat is nearly certain. If a low temperature or `top_p` made them certain, a
    repeat would never end. The generator is one of the CPU.
    """

    def __init__(
        self,
        sampler: Sampler,
        generator: Generator,
        key: KeyWeights | None,
        match_logits: MatchLogits | None,
    ) -> None:
        self.settings, self.generator, self.key = sampler.settings, generator, key
        self.gains = None if match_logits is None else match_logits.fixed_gains()
        self.u: Iterator[np.ndarray] = iter(())

    def begin(self, h_BD: Tensor, match_BM: Tensor | None) -> None:
        """Go on to the next message, given the state and the match."""
        if self.gains is not None and match_BM is not None:
            self.match_BM = match_BM.cpu().contiguous().numpy()
            self.gain_BF = as_array(self.gains(h_BD, match_BM))
            self.follows_B = np.empty(len(h_BD), np.bool_)

    def pick(self, field: int, z_BV: Tensor) -> Tensor:
        """The class of a field, given its logits, which are overwritten."""
        # Compiled: loading takes a second.
        from musegen.models.layers import sampling_kernels

        array_BV, drawn_B = as_array(z_BV), np.empty(len(z_BV), np.int64)
        if field == 0 and self.key is not None:
            self.key.add_to(array_BV)
        given = array_BV, self._uniform(len(drawn_B)), *self.settings
        if self.gains is None:
            sampling_kernels.draw_rows(*given, drawn_B)
        else:
            match = self.match_BM, self.gain_BF, LEAST_LEVEL, self.follows_B
            sampling_kernels.draw_repeats(*given, field, *match, drawn_B)
        return torch.from_numpy(drawn_B).to(z_BV.device)

    def _uniform(self, rows: int) -> np.ndarray:
        """Random numbers (rows, 2); those of many calls are drawn at once."""
        u_BU = next(self.u, None)
        if u_BU is None:
            self.u = iter(uniform((CALLS, rows, 2), self.generator))
            u_BU = next(self.u)
        return u_BU
