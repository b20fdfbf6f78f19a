"""The network of `lstm_midi` below its heads: embeddings of messages → LSTM stack → attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from musegen.codecs.messages import MessageCodec
from musegen.models.base import Model
from musegen.models.layers.active_notes import active_features, message_ages
from musegen.models.layers.beat_clock import BeatClock
from musegen.models.layers.message_match import MatchEmbedding
from musegen.models.layers.past_attention import Past, PastAttention
from musegen.specs import LabelledMessages, Messages


class State(NamedTuple):
    """The recurrent state along a piece."""

    h: Any
    """The LSTM's hidden state: (layers, B, H); in `MessageStep` one (B, H) per layer."""
    c: Any
    """The LSTM's cell state, of the same shapes."""
    age_BP: Tensor
    """0 for a silent pitch, otherwise the number of messages since its onset, starting at 1."""
    past: Past | None = None
    """What attention reads, if there is attention."""


class MessageNet(Model, abstract=True):
    """Concatenated embeddings of note, velocity and time, and of what follows from the messages
    before: the sounding notes, the place in the bar and the longest match. See `LSTMMidi` for the
    settings."""

    spec: Messages | LabelledMessages
    codec: MessageCodec

    def __init__(
        self,
        spec: Messages | LabelledMessages,
        codec: MessageCodec | None,
        hidden: int,
        layers: int,
        embedding: Sequence[int] | None,
        active_note_dim: int,
        clock_dim: int,
        attention_heads: int,
        attention_span: int,
        dropout: float,
    ) -> None:
        super().__init__(spec, codec)
        # One additional class per field: "before the piece".
        tables = [
            _one_hot(size + 1) if embedding is None else nn.Embedding(size + 1, embedding[f])
            for f, size in enumerate(self.spec.sizes)
        ]
        self.embed = nn.ModuleList(tables)
        self.clock = (
            BeatClock(self.spec.clock, clock_dim) if self.spec.clock and clock_dim else None
        )
        width = sum(table.embedding_dim for table in tables) + active_note_dim
        width += clock_dim if self.clock else 0
        self.embed_active = (
            nn.Linear(2 * self.spec.notes, active_note_dim, bias=False) if active_note_dim else None
        )
        self.embed_label = (
            nn.Embedding(self.spec.num_labels, width)
            if isinstance(self.spec, LabelledMessages)
            else None
        )
        self.embed_match = MatchEmbedding(self.spec.sizes, width) if self.spec.matches else None
        self.lstm = nn.LSTM(
            width, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0
        )
        self.attention = (
            PastAttention(hidden, width, attention_heads, attention_span)
            if attention_heads
            else None
        )

    def forward(
        self,
        x_BTF: Tensor,
        state: State | None = None,
        label_B: Tensor | None = None,
        clock_BTC: Tensor | None = None,
        match_BTM: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """Messages, their labels, their clock and the matches after them → the LSTM's output h_BTD,
        the features active_BTQ of the notes that sound after each message, and the next state."""
        silent_BP = torch.zeros(len(x_BTF), self.spec.notes, device=x_BTF.device).to(self.dtype)
        age_BP = state.age_BP if state else silent_BP
        if self.embed_active is None:
            age_BTP = active_BTQ = age_BP[:, None].expand(-1, x_BTF.shape[1], -1)
        else:
            age_BTP = message_ages(x_BTF, age_BP)
            active_BTQ = active_features(age_BTP)
        cells = (state.h, state.c) if state else None
        label_B1 = None if label_B is None else label_B[:, None]
        v_BTE = self.embedded(x_BTF, active_BTQ, label_B1, clock_BTC, match_BTM)
        h_BTD, (h, c) = self.lstm(v_BTE, cells)
        past = None
        if self.attention is not None:
            h_BTD, past = self.attention(h_BTD, v_BTE, state.past if state else None)
        return h_BTD, active_BTQ, State(h, c, age_BTP[:, -1], past)

    def embedded(
        self,
        x_F: Tensor,
        active_Q: Tensor,
        label: Tensor | None,
        clock_C: Tensor | None,
        match_M: Tensor | None,
    ) -> Tensor:
        """(…, F) classes, (…, Q) features of the sounding notes, labels, (…, C) clock and (…, M)
        matches → (…, E)."""
        parts = [embed(x_F[..., f]) for f, embed in enumerate(self.embed)]
        if self.embed_active is not None:
            parts.append(self.embed_active(active_Q))
        if self.clock is not None:
            parts.append(self.clock(clock_C))
        v_E = torch.cat(parts, dim=-1)
        if self.embed_match is not None:
            v_E = v_E + self.embed_match(match_M)
        if self.embed_label is not None:
            assert label is not None, "a labelled model reads labelled batches"
            v_E = v_E + self.embed_label(label)
        return v_E


def _one_hot(size: int) -> nn.Embedding:
    return nn.Embedding.from_pretrained(torch.eye(size), freeze=True)
