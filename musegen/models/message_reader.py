"""Reading given messages with an `LSTMMidi`: their log p, and the state after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from musegen.codecs.messages import MessageCodec
from musegen.codecs.time_grid import TICKS
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
    """B places in pieces: the net's output h_BD, the sounding notes and the state."""

    h_BD: Tensor
    active_BQ: Tensor
    state: State

    def select(self, row_N: Tensor) -> Cursor:
        """The places of these rows."""
        h, c, age_BP, past = self.state
        state = State(
            tuple(part[row_N] for part in h),
            tuple(part[row_N] for part in c),
            age_BP[row_N],
            past and Past(*(part[row_N] for part in past)),
        )
        return Cursor(self.h_BD[row_N], self.active_BQ[row_N], state)


class Reader:
    """A model at a temperature, for pieces with bars of `bar` ticks, counted from time 0."""

    def __init__(self, model: LSTMMidi, bar: int, label: int | None, temperature: float) -> None:
        self.model, self.bar, self.label, self.temperature = model, bar, label, temperature
        self.message_step = MessageStep(model)

    def start(self) -> Cursor:
        """The place before a piece, one row."""
        x_BLF = torch.tensor([[self.model.spec.sizes]], device=self.model.device)
        return self._forward(x_BLF, torch.zeros(1, 1, dtype=torch.float64), None)[1]

    def classes(self, events: np.ndarray, since: float) -> np.ndarray:
        """The classes (L, 3) of successive events, the first one after the time `since`."""
        time_L = self.model.codec.grid.classes(np.diff(events["time"], prepend=since).clip(0))
        return np.stack([events["note"], events["velocity"], time_L], axis=1)

    def read(self, cursor: Cursor, x_BLF: Tensor, time_BL: Tensor) -> tuple[Tensor, Cursor]:
        """log p of messages with these classes at these times, (B, L), and the place after them."""
        if not x_BLF.shape[1]:
            return torch.zeros(x_BLF.shape[:2], dtype=torch.float64, device=x_BLF.device), cursor
        (h_BLD, active_BLQ), after = self._forward(x_BLF, time_BL, cursor.state)
        h_BLD = torch.cat([cursor.h_BD[:, None], h_BLD[:, :-1]], dim=1)
        active_BLQ = torch.cat([cursor.active_BQ[:, None], active_BLQ[:, :-1]], dim=1)
        flat = h_BLD.flatten(0, 1), active_BLQ.flatten(0, 1), x_BLF.flatten(0, 1)
        log_prob_N = sum(
            log_p_NV.gather(1, flat[2][:, f, None])[:, 0]
            for f, log_p_NV in enumerate(self._log_probs(*flat))
        )
        assert isinstance(log_prob_N, Tensor)
        return log_prob_N.unflatten(0, x_BLF.shape[:2]), after

    def fields(self, cursor: Cursor, x_BF: Tensor) -> list[Tensor]:
        """log p of every class of each field of the next message, given its fields before."""
        return self._log_probs(cursor.h_BD, cursor.active_BQ, x_BF)

    def step(self, cursor: Cursor, x_BF: Tensor, time_B: Tensor) -> Cursor:
        """The places after one more message each."""
        label_B, clock_BC = self._labels(len(x_BF)), self._clock(time_B)
        return Cursor(*self.message_step(x_BF, cursor.state, label_B, clock_BC))

    def _log_probs(self, h_ND: Tensor, active_NQ: Tensor, x_NF: Tensor) -> list[Tensor]:
        logits = self.model.heads(h_ND, active_NQ, x_NF)
        return [(z_NV.double() / self.temperature).log_softmax(-1) for z_NV in logits]

    def _forward(
        self, x_BLF: Tensor, time_BL: Tensor, state: State | None
    ) -> tuple[tuple[Tensor, Tensor], Cursor]:
        if state is not None:
            state = State(torch.stack(tuple(state.h)), torch.stack(tuple(state.c)), *state[2:])
        label_B, clock_BLC = self._labels(len(x_BLF)), self._clock(time_BL)
        h_BLD, active_BLQ, (h, c, age_BP, past) = self.model(x_BLF, state, label_B, clock_BLC)
        last = State(h.unbind(), c.unbind(), age_BP, past)
        return (h_BLD, active_BLQ), Cursor(h_BLD[:, -1], active_BLQ[:, -1], last)

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
