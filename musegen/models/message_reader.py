"""Reading given messages with an `LSTMMidi`: their log p, and the state after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from musegen.codecs.message_matches import MessageHistory
from musegen.codecs.messages import MessageCodec
from musegen.codecs.time_grid import TICKS
from musegen.models.layers.message_match import read_matches
from musegen.models.layers.past_attention import Past
from musegen.models.message_net import State
from musegen.models.message_step import MessageStep

if TYPE_CHECKING:
    from musegen.models.lstm_midi import LSTMMidi

EVENTS = np.dtype([("time", "f8"), ("note", "i8"), ("velocity", "i8")])
"""A message at an absolute time, in the codec's unit, with the classes of note and velocity."""
RELEASE_FIRST = 1000
"""The key of an onset is its note and this; that of a release is its note."""


def events_of(codec: MessageCodec, notes: np.ndarray) -> np.ndarray:
    """The events of notes in the codec's unit of time, in the order of `notes_to_messages`."""
    count = len(notes)
    events = np.zeros(2 * count, EVENTS)
    events["time"] = np.r_[notes["start"], notes["end"]]
    events["note"] = np.tile(notes["pitch"].astype(np.int64) - codec.pitch_range[0], 2)
    events["velocity"][:count] = codec.velocity_classes(notes["velocity"])
    return events[np.lexsort((events["note"], events["velocity"] > 0, events["time"]))]


class Cursor(NamedTuple):
    """B places in pieces: the net's output h_BD, the sounding notes and the state; the match and
    the history, if the model reads matches."""

    h_BD: Tensor
    active_BQ: Tensor
    state: State
    match_BM: Tensor | None = None
    history: MessageHistory | None = None

    def select(self, row_N: Tensor) -> Cursor:
        """The places of these rows."""
        h, c, age_BP, past = self.state
        state = State(
            tuple(part[row_N] for part in h),
            tuple(part[row_N] for part in c),
            age_BP[row_N],
            past and Past(*(part[row_N] for part in past)),
        )
        match_NM = None if self.match_BM is None else self.match_BM[row_N]
        history = self.history and self.history.select(row_N.cpu().numpy())
        return Cursor(self.h_BD[row_N], self.active_BQ[row_N], state, match_NM, history)


class Reader:
    """A model at a temperature, for pieces with bars of `bar` ticks, counted from time 0."""

    def __init__(self, model: LSTMMidi, bar: int, label: int | None, temperature: float) -> None:
        self.model, self.bar, self.label, self.temperature = model, bar, label, temperature
        self.message_step = MessageStep(model)

    def start(self) -> Cursor:
        """The place before a piece, one row."""
        spec = self.model.spec
        x_BLF = torch.tensor([[spec.sizes]], device=self.model.device)
        history = MessageHistory(1, spec.sizes) if spec.matches else None
        return self._forward(x_BLF, torch.zeros(1, 1, dtype=torch.float64), None, history)[1]

    def classes(self, events: np.ndarray, since: float) -> np.ndarray:
        """The classes (L, 3) of successive events, the first one after the time `since`."""
        time_L = self.model.codec.grid.classes(np.diff(events["time"], prepend=since).clip(0))
        return np.stack([events["note"], events["velocity"], time_L], axis=1)

    def read(self, cursor: Cursor, x_BLF: Tensor, time_BL: Tensor) -> tuple[Tensor, Cursor]:
        """log p of messages with these classes at these times, (B, L), and the place after them."""
        if not x_BLF.shape[1]:
            return torch.zeros(x_BLF.shape[:2], dtype=torch.float64, device=x_BLF.device), cursor
        history = _copied(cursor.history, len(x_BLF))
        after_BL, after = self._forward(x_BLF, time_BL, cursor.state, history)
        before = cursor.h_BD, cursor.active_BQ, cursor.match_BM
        h_ND, active_NQ, match_NM = map(_shifted, before, after_BL)
        assert h_ND is not None
        assert active_NQ is not None
        x_NF = x_BLF.flatten(0, 1)
        log_prob_N = sum(
            log_p_NV.gather(1, x_NF[:, f, None])[:, 0]
            for f, log_p_NV in enumerate(self._log_probs(h_ND, active_NQ, x_NF, match_NM))
        )
        assert isinstance(log_prob_N, Tensor)
        return log_prob_N.unflatten(0, x_BLF.shape[:2]), after

    def fields(self, cursor: Cursor, x_BF: Tensor) -> list[Tensor]:
        """log p of every class of each field of the next message, given its fields before."""
        return self._log_probs(cursor.h_BD, cursor.active_BQ, x_BF, cursor.match_BM)

    def step(self, cursor: Cursor, x_BF: Tensor, time_B: Tensor) -> Cursor:
        """The places after one more message each."""
        label_B, clock_BC = self._labels(len(x_BF)), self._clock(time_B)
        history, match_BM = _copied(cursor.history, len(x_BF)), None
        if history is not None:
            match_BM = read_matches(history, x_BF[:, None])[:, 0]
        after = self.message_step(x_BF, cursor.state, label_B, clock_BC, match_BM)
        return Cursor(*after, match_BM, history)

    def _log_probs(
        self, h_ND: Tensor, active_NQ: Tensor, x_NF: Tensor, match_NM: Tensor | None
    ) -> list[Tensor]:
        logits = self.model.logits(h_ND, active_NQ, x_NF, match_NM)
        return [(z_NV.double() / self.temperature).log_softmax(-1) for z_NV in logits]

    def _forward(
        self, x_BLF: Tensor, time_BL: Tensor, state: State | None, history: MessageHistory | None
    ) -> tuple[tuple[Tensor, Tensor, Tensor | None], Cursor]:
        """The net's output, the sounding notes and the match after each message; and the place
        after the last one. The messages are added to the history."""
        if state is not None:
            state = State(torch.stack(tuple(state.h)), torch.stack(tuple(state.c)), *state[2:])
        label_B, clock_BLC = self._labels(len(x_BLF)), self._clock(time_BL)
        match_BLM = None if history is None else read_matches(history, x_BLF)
        h_BLD, active_BLQ, (h, c, age_BP, past) = self.model(
            x_BLF, state, label_B, clock_BLC, match_BLM
        )
        last = State(h.unbind(), c.unbind(), age_BP, past)
        match_BM = None if match_BLM is None else match_BLM[:, -1]
        place = Cursor(h_BLD[:, -1], active_BLQ[:, -1], last, match_BM, history)
        return (h_BLD, active_BLQ, match_BLM), place

    def _labels(self, rows: int) -> Tensor | None:
        if self.label is None:
            return None
        return torch.full((rows,), self.label, device=self.model.device)

    def _clock(self, time: Tensor) -> Tensor | None:
        if self.model.clock is None:
            return None
        place = (time * TICKS).round().long() % self.bar
        clock = torch.stack([place, torch.full_like(place, self.bar)], dim=-1)
        return clock.to(self.model.device)


def _copied(history: MessageHistory | None, rows: int) -> MessageHistory | None:
    return history and history.select(np.arange(rows))


def _shifted(before_BX: Tensor | None, after_BLX: Tensor | None) -> Tensor | None:
    """What is known before each message, (N, X), from what is known after each."""
    if before_BX is None or after_BLX is None:
        return None
    return torch.cat([before_BX[:, None], after_BLX[:, :-1]], dim=1).flatten(0, 1)
