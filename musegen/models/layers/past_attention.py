"""Attention of a recurrent net to the messages before, carried from window to window.

A message is found by the state before it: its key comes from the output h(s − 1) of the recurrent
net, its value is the embedded message. The query comes from the present output. Only the last
`span` messages are kept, so a step costs the same however long the piece is.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from musegen.models.layers.attention import CausalAttention

HEAD_WIDTH = 32


class Past(NamedTuple):
    """What is kept of the last messages of each batch row, S ≤ span of them."""

    k_BSZ: Tensor
    """Their keys."""
    v_BSE: Tensor
    """The embedded messages."""
    known_BS: Tensor
    """False for messages of another piece."""
    h_BD: Tensor
    """The last output, of which the next key is made."""

    def kept(self, keep_B: Tensor) -> Past:
        """The past of the rows that continue their piece; the others start without one."""
        return Past(
            self.k_BSZ, self.v_BSE, self.known_BS & keep_B[:, None], self.h_BD * keep_B[:, None]
        )

    def detached(self) -> Past:
        """Without gradients."""
        return Past(*(part.detach() for part in self))


class PastAttention(nn.Module):
    """Adds what `CausalAttention` reads to the outputs: h(t) + W r(t), W from 0.

    Shapes: h (B, T, `hidden`), embedded messages v (B, T, `embedding`).
    """

    def __init__(self, hidden: int, embedding: int, heads: int, span: int) -> None:
        super().__init__()
        self.span = span
        self.attention = CausalAttention(hidden, embedding, heads, HEAD_WIDTH, span)
        self.out = nn.Linear(self.attention.out_features, hidden, bias=False)
        nn.init.zeros_(self.out.weight)

    def empty(self, h_BTD: Tensor, v_BTE: Tensor) -> Past:
        """The past before a piece."""
        rows, width = len(h_BTD), self.attention.key.out_features
        known_BS = torch.zeros(rows, 0, dtype=torch.bool, device=h_BTD.device)
        return Past(
            h_BTD.new_zeros(rows, 0, width), v_BTE[:, :0], known_BS, torch.zeros_like(h_BTD[:, 0])
        )

    def forward(self, h_BTD: Tensor, v_BTE: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """The outputs after each message v, with what was read, and the past of the next call."""
        past = self.empty(h_BTD, v_BTE) if past is None else past
        parts = []
        # In blocks, so that a long prime needs no more memory than a window.
        for h_BCD, v_BCE in zip(h_BTD.split(self.span, 1), v_BTE.split(self.span, 1), strict=True):
            y_BCD, past = self._block(h_BCD, v_BCE, past)
            parts.append(y_BCD)
        return torch.cat(parts, 1), past

    def _block(self, h_BTD: Tensor, v_BTE: Tensor, past: Past) -> tuple[Tensor, Past]:
        before_BTD = torch.cat([past.h_BD[:, None], h_BTD[:, :-1]], 1)
        k_BSZ = torch.cat([past.k_BSZ, self.attention.key(before_BTD)], 1)
        v_BSE = torch.cat([past.v_BSE, v_BTE], 1)
        here_BT = torch.ones(h_BTD.shape[:2], dtype=torch.bool, device=h_BTD.device)
        known_BS = torch.cat([past.known_BS, here_BT], 1)
        # The message before the first prediction has been read already.
        first = past.k_BSZ.shape[1] + 1
        q_BTZ = self.attention.query(h_BTD)
        r_BTZ = self.attention.attend(q_BTZ, k_BSZ, v_BSE, first, known_BS)
        kept = slice(max(0, k_BSZ.shape[1] - self.span), None)
        after = Past(k_BSZ[:, kept], v_BSE[:, kept], known_BS[:, kept], h_BTD[:, -1])
        return h_BTD + self.out(r_BTZ), after
