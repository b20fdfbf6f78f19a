"""Causal multi-head attention to the earlier frames of a piece.

Music repeats itself. Instead of carrying a whole phrase in a recurrent state, attention finds
earlier positions where the state was similar and reads the frames that followed (compare the
neural cache of Grave, Joulin & Usunier 2017). Relative-position biases: Shaw et al. 2018, Raffel
et al. 2020.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalAttention(nn.Module):
    """Causal multi-head attention with a relative-position bias and a null key.

    For each of M heads, the query comes from u(t−1), the recurrent state before frame t, and the
    keys from the states before the earlier frames, q(t) = W_q u(t−1) + b_q and
    k(s) = W_k u(s−1) + b_k, both of dimension `width`; the values are the frames v(s):

        e(t, s)    = q(t)·k(s) / √width + λ(t − s)     for 0 < t − s ≤ span
        e(t, null) = ε
        α(t, ·)    = softmax e(t, ·)
        r(t)       = [Σ_s α(t, s) v(s), α(t, null)]    (D + 1 numbers per head)

    The null key lets a head attend to no frame. λ (M × span) and ε (M) are learned from 0. Memory
    grows linearly with the length of the sequence.

    Shapes: u (B, T, R) with R = `recurrent`, frames (B, T, D) with D = `visible`, result
    (B, T, `out_features`) with out_features = M (D + 1).
    """

    def __init__(self, recurrent: int, visible: int, heads: int, width: int, span: int) -> None:
        super().__init__()
        self.heads, self.width, self.span = heads, width, span
        self.query = nn.Linear(recurrent, heads * width)
        self.key = nn.Linear(recurrent, heads * width)
        self.distance_bias_MS = nn.Parameter(torch.zeros(heads, span))
        self.null_M = nn.Parameter(torch.zeros(heads))
        self.out_features = heads * (visible + 1)

    def all_steps(self, u_BTR: Tensor, x_BTD: Tensor) -> Tensor:
        """r(1) … r(T) of whole sequences, (B, T, out_features), from u(0) … u(T − 1).

        Computed in blocks of `span` steps, each with the `span` frames before it.
        """
        blocks = []
        for first in range(0, u_BTR.shape[1], self.span):
            queries = slice(first, first + self.span)
            keys = slice(max(0, first - self.span), first + self.span)
            r_BTZ = self(u_BTR[:, queries], u_BTR[:, keys], x_BTD[:, keys], first - keys.start)
            blocks.append(r_BTZ)
        return torch.cat(blocks, dim=1)

    def step(self, t: int, u_BTR: Tensor, x_BTD: Tensor) -> Tensor:
        """r of step t, (B, out_features), from sequences that are known up to step t."""
        keys = slice(max(0, t - self.span), t)
        return self(u_BTR[:, t, None], u_BTR[:, keys], x_BTD[:, keys], t - keys.start)[:, 0]

    def forward(self, u_BTR: Tensor, past_BSR: Tensor, x_BSD: Tensor, first: int) -> Tensor:
        """r of T successive steps, (B, T, out_features).

        past_BSR are the states before each of the S frames x_BSD; `first` is how many of these
        frames come before the first step. Frames that are not in a step's past are masked.
        """
        return self.attend(self.query(u_BTR), self.key(past_BSR), x_BSD, first)

    def attend(
        self,
        q_BTZ: Tensor,
        k_BSZ: Tensor,
        x_BSD: Tensor,
        first: int,
        known_BS: Tensor | None = None,
    ) -> Tensor:
        """`forward` from queries and keys, Z = heads · width; unknown frames are masked."""
        q_BMTW, k_BMSW = (
            z.unflatten(-1, (self.heads, self.width)).transpose(1, 2) for z in (q_BTZ, k_BSZ)
        )
        # The null key is one more position: a key of zeros, and a value with one extra unit, on.
        k_BMSW, frames_BSD = F.pad(k_BMSW, (0, 0, 0, 1)), F.pad(x_BSD, (0, 1, 0, 1))
        frames_BSD[:, -1, -1] = 1
        bias_MTS = self.biases(q_BTZ.shape[1], x_BSD.shape[1], first)
        e_BMTS = q_BMTW @ k_BMSW.transpose(-1, -2) / math.sqrt(self.width) + bias_MTS
        if known_BS is not None:
            masked_BS = F.pad(~known_BS, (0, 1))
            e_BMTS = e_BMTS.masked_fill(masked_BS[:, None, None], -torch.inf)
        r_BMTD = e_BMTS.softmax(-1) @ frames_BSD[:, None]
        return r_BMTD.transpose(1, 2).flatten(2)

    def biases(self, steps: int, frames: int, first: int) -> Tensor:
        """λ of the distance from step t back to frame s, −∞ if masked; then ε: (M, T, S + 1)."""
        masked_M1 = self.distance_bias_MS.new_full((self.heads, 1), -torch.inf)
        # One row of biases for all distances 1 − frames + first … steps − 1 + first; each step
        # uses a window of `frames` of them.
        known_MS = self.distance_bias_MS[:, : first + steps - 1]
        future, too_far = frames - first, max(0, first + steps - 1 - self.span)
        row = [masked_M1.expand(-1, future), known_MS, masked_M1.expand(-1, too_far)]
        bias_MTS = torch.cat(row, dim=1).unfold(1, frames, 1).flip(-1)
        null_MT1 = self.null_M[:, None, None].expand(-1, steps, 1)
        return torch.cat([bias_MTS, null_MT1], dim=-1)
