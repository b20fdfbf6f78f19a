"""Looking back: what came next in this piece when it last stood as it stands now.

Music repeats itself. A recurrent state must carry a phrase along to say it again; here the state
finds the place instead, and the frames that followed are read off (a cache of the piece's own
past: Grave, Joulin & Usunier 2017; a bias for each distance: Shaw et al. 2018, Raffel et al. 2020).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CausalAttention(nn.Module):
    """`heads` soft pointers from the step before frame t to the frames s < t of the piece.

    With u(t−1) all that a recurrent net knows before frame t, and of each head the query
    q(t) = W_q u(t−1) and the keys k(s) = W_k u(s−1), both of `width` numbers,

        e(t, s) = q(t)·k(s) / √width + λ(t − s)   for 0 < t − s ≤ span,   and ε for "nowhere";
        α(t, ·) = softmax e(t, ·)
        r(t)    = Σ_s α(t, s) v(s), followed by α(t, nowhere)

    λ and ε begin at 0. A piece of any length takes memory in proportion to it.
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
        """r(1) … r(T) of whole sequences, (B, T, out_features), from u(0) … u(T − 1)."""
        parts = []
        for first in range(0, u_BTR.shape[1], self.span):
            now = slice(first, first + self.span)
            before = slice(max(0, first - self.span), first + self.span)
            r_BTZ = self(u_BTR[:, now], u_BTR[:, before], x_BTD[:, before], first - before.start)
            parts.append(r_BTZ)
        return torch.cat(parts, dim=1)

    def step(self, t: int, u_BTR: Tensor, x_BTD: Tensor) -> Tensor:
        """r at step t alone, (B, out_features), of sequences known up to there."""
        before = slice(max(0, t - self.span), t)
        return self(u_BTR[:, t, None], u_BTR[:, before], x_BTD[:, before], t - before.start)[:, 0]

    def forward(self, u_BTR: Tensor, past_BSR: Tensor, x_BSD: Tensor, first: int) -> Tensor:
        """r at T successive steps, (B, T, out_features), of which step 0 has `first` frames
        behind it.

        past_BSR holds the states before each of the frames x_BSD; frames that are no past of a
        step do not count there.
        """
        q_BMTW, k_BMSW = (
            layer(u).unflatten(-1, (self.heads, self.width)).transpose(1, 2)
            for layer, u in ((self.query, u_BTR), (self.key, past_BSR))
        )
        # "Nowhere" is one place more: a key of zeros, and a frame with a unit of its own.
        k_BMSW, frames_BSD = F.pad(k_BMSW, (0, 0, 0, 1)), F.pad(x_BSD, (0, 1, 0, 1))
        frames_BSD[:, -1, -1] = 1
        bias_MTS = self.biases(u_BTR.shape[1], x_BSD.shape[1], first)
        e_BMTS = q_BMTW @ k_BMSW.transpose(-1, -2) / math.sqrt(self.width) + bias_MTS
        r_BMTD = e_BMTS.softmax(-1) @ frames_BSD[:, None]
        return r_BMTD.transpose(1, 2).flatten(2)

    def biases(self, steps: int, frames: int, first: int) -> Tensor:
        """λ of step t's distance from frame s, −∞ where it is no past; last ε: (M, T, S + 1)."""
        never = self.distance_bias_MS.new_full((self.heads, 1), -torch.inf)
        # Of the distances 1 − frames + first … steps − 1 + first every step sees `frames`.
        known_MS = self.distance_bias_MS[:, : first + steps - 1]
        to_come, too_far = frames - first, max(0, first + steps - 1 - self.span)
        line = [never.expand(-1, to_come), known_MS, never.expand(-1, too_far)]
        bias_MTS = torch.cat(line, dim=1).unfold(1, frames, 1).flip(-1)
        null_MT1 = self.null_M[:, None, None].expand(-1, steps, 1)
        return torch.cat([bias_MTS, null_MT1], dim=-1)
