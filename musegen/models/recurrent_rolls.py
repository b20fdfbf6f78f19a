"""Piano-roll models whose frames are conditioned on a recurrent network and on attention.

What is known before frame t of a piece:

- u(t−1), the state of the recurrent network, with dropout;
- r(t), causal attention to the earlier frames (`musegen.models.layers.attention`);
- the clock, t modulo 2, 4, 8 and 16, and how often notes started whole periods earlier
  (`musegen.models.layers.metre`);
- the age of each note of frame t − 1 (`musegen.models.layers.note_age`);
- what followed the longest match of the last frames (`musegen.models.layers.longest_match`).

The model maps them to the biases of the distribution of frame t, an RBM's or a NADE's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from musegen.codecs.roll_codec import RollCodec
from musegen.models.layers.attention import CausalAttention
from musegen.models.layers.dropout import Dropout
from musegen.models.layers.frame_sampler import FrameSampler, Given
from musegen.models.layers.longest_match import MatchInput
from musegen.models.layers.metre import MetreInput
from musegen.models.layers.note_age import AGE_BUCKETS, note_ages
from musegen.models.layers.recurrence import Cell, Recurrence
from musegen.models.roll_model import RollModel
from musegen.specs import Rolls

ATTENTION_HEAD_WIDTH = 32
"""Dimension of each head's queries and keys."""


class Conditions(NamedTuple):
    """What is known before each of N frames; None for what the model does not use."""

    u_NR: Tensor
    r_NZ: Tensor | None = None
    metre_NC: Tensor | None = None
    age_ND: Tensor | None = None
    match_NZ: Tensor | None = None

    def map(self, function: Callable[[Tensor], Tensor]) -> Conditions:
        """The conditions with `function` applied to each."""
        return Conditions(*(None if z is None else function(z) for z in self))  # type: ignore[arg-type]


class HistorySettings(NamedTuple):
    """The settings of what `RecurrentRolls` is conditioned on; see the models."""

    recurrent: int
    cell: Cell
    learn_initial_state: bool
    dropout: float
    attention_heads: int
    attention_span: int
    attention_dropout: float
    note_age: bool
    clock: bool
    metre: bool
    longest_match: bool
    frozen_histories: float
    flipped_notes: float


class RecurrentRolls(RollModel, abstract=True):
    """A distribution of every frame, with biases from u, r, the metre, the note ages and matches.

    `std` is the standard deviation of the initial matrices of the tanh network. Subclasses map
    `Conditions` to biases in `biases`.
    """

    smallest_age_A: Tensor

    def __init__(
        self, spec: Rolls, codec: RollCodec | None, history: HistorySettings, std: float
    ) -> None:
        super().__init__(spec, codec)
        self.note_age = history.note_age
        self.frozen_histories = history.frozen_histories
        self.flipped_notes = history.flipped_notes
        visible = self.spec.pitches
        self.metre = MetreInput(history.clock, history.metre, self.low_pitches)
        inputs = visible * (2 if self.note_age else 1) + self.metre.out_features
        self.recurrence = Recurrence(
            history.cell, inputs, history.recurrent, std, history.learn_initial_state
        )
        self.dropout = Dropout(history.dropout)
        self.attention_dropout = Dropout(history.attention_dropout)
        self.attention: CausalAttention | None = None
        if history.attention_heads:
            self.attention = CausalAttention(
                history.recurrent, visible, history.attention_heads, ATTENTION_HEAD_WIDTH,
                history.attention_span,
            )  # fmt: skip
        self.match = MatchInput(visible) if history.longest_match else None
        # A buffer is on the device already: copying the ages to a GPU in every update would make
        # the CPU wait.
        smallest_age_A = torch.tensor(AGE_BUCKETS)
        self.register_buffer("smallest_age_A", smallest_age_A, persistent=False)

    @abstractmethod
    def biases(self, conditions: Conditions) -> tuple[Tensor, Tensor]:
        """b_v(t) and b_h(t), one row for each row of the conditions."""

    # --- Whole sequences --------------------------------------------------------------------

    def conditions(self, x_BTD: Tensor) -> Conditions:
        """What is known before each frame of sequences, each of shape (B, T, …)."""
        age_BTD = note_ages(x_BTD) if self.note_age else None
        metre_BTC = self.metre_input(x_BTD[:, :-1], x_BTD.shape[1])
        u_BTR = self.recurrence.states_before(self.inputs(x_BTD, age_BTD, metre_BTC))
        return Conditions(
            u_BTR,
            self.attention.all_steps(u_BTR, x_BTD) if self.attention else None,
            metre_BTC,
            None if age_BTD is None else F.pad(age_BTD[:, :-1], (0, 0, 1, 0)),
            self.match_input(x_BTD[:, :-1], x_BTD.shape[1]),
        )

    def states_before(self, x_BTD: Tensor) -> Tensor:
        """u(0) … u(T − 1), the state before each frame, (B, T, R)."""
        age_BTD = note_ages(x_BTD) if self.note_age else None
        metre_BTC = self.metre_input(x_BTD[:, :-1], x_BTD.shape[1])
        return self.recurrence.states_before(self.inputs(x_BTD, age_BTD, metre_BTC))

    def inputs(self, x_BTD: Tensor, age_BTD: Tensor | None, metre_BTC: Tensor | None) -> Tensor:
        """The inputs of u for frames, given the ages of their notes and their metre."""
        parts = [x_BTD]
        if age_BTD is not None:
            parts.append((1 + age_BTD.type_as(x_BTD)).log2() / 5)
        if metre_BTC is not None:
            parts.append(metre_BTC)
        return torch.cat(parts, dim=-1) if len(parts) > 1 else x_BTD

    def metre_input(self, x_BTD: Tensor, steps: int) -> Tensor | None:
        """The metre at each of the last `steps` frames of pieces, whose frames but the last one are
        x_BTD."""
        if not self.metre.out_features:
            return None
        return self.metre(after_silence(x_BTD), steps, x_BTD.shape[1] + 1 - steps)

    def match_input(self, x_BTD: Tensor, steps: int) -> Tensor | None:
        """The longest match for each of the last `steps` frames of pieces, whose frames but the
        last one are x_BTD."""
        return None if self.match is None else self.match(after_silence(x_BTD), steps)

    def age_bias(self, b_age_AD: Tensor, age_ND: Tensor) -> Tensor:
        """The bias of each note by its age in the frame before, (N, D)."""
        bucket_ND = torch.bucketize(age_ND.contiguous(), self.smallest_age_A, right=True)
        return b_age_AD[bucket_ND, torch.arange(age_ND.shape[1], device=age_ND.device)]


def after_silence(x_BTD: Tensor) -> Tensor:
    """Pieces with the silent frame that comes before each."""
    return F.pad(x_BTD, (0, 0, 1, 0))


class FrameLaw(Protocol):
    """The distribution of frames with the biases b_v(t) and b_h(t)."""

    def draw(
        self, b_v_ND: Tensor, b_h_NH: Tensor, given: Given | None
    ) -> tuple[Tensor, Tensor | None]:
        """A sample for each row of biases, as by `FrameSampler.draw`."""

    def log_prob(self, x_ND: Tensor, b_v_ND: Tensor, b_h_NH: Tensor) -> Tensor:
        """log p of each frame, (N,), in nats."""


class RecurrentSampler(FrameSampler):
    """Frames of `RecurrentRolls`; `law` is their distribution given their biases."""

    def __init__(
        self, model: RecurrentRolls, rows: int, steps: int, law: FrameLaw, generator: Generator
    ) -> None:
        self.model, self.law, self.generator = model, law, generator
        self.state = model.recurrence.start(rows)
        self.x_NTD = self.state[0].new_zeros(rows, steps, model.spec.pitches)
        self.u_NTR = self.state[0].new_zeros(rows, steps, self.state[0].shape[1])
        self.age_ND: Tensor | None = None
        if model.note_age:
            self.age_ND = torch.zeros_like(self.x_NTD[:, 0], dtype=torch.int64)
        self.t = 0

    def draw(self, given: Given | None = None) -> tuple[Tensor, Tensor | None]:
        model, t = self.model, self.t
        self.u_NTR[:, t] = self.state[0]
        r_NZ = model.attention.step(t, self.u_NTR, self.x_NTD) if model.attention else None
        metre_N1C = model.metre_input(self.x_NTD[:, :t], 1)
        metre_NC = None if metre_N1C is None else metre_N1C[:, 0]
        match_N1Z = model.match_input(self.x_NTD[:, :t], 1)
        match_NZ = None if match_N1Z is None else match_N1Z[:, 0]
        known = Conditions(self.state[0], r_NZ, metre_NC, self.age_ND, match_NZ)
        return self.law.draw(*model.biases(known), given)

    def longest_match(self) -> tuple[Tensor, Tensor] | None:
        if self.model.match is None:
            return None
        level_N1, match_N1D = self.model.match.finder(after_silence(self.x_NTD[:, : self.t]), 1)
        return level_N1[:, 0], match_N1D[:, 0]

    def append(self, frame_ND: Tensor) -> None:
        model, t = self.model, self.t
        self.x_NTD[:, t], self.u_NTR[:, t] = frame_ND, self.state[0]
        age_N1D = None
        if self.age_ND is not None:
            age_N1D = note_ages(frame_ND[:, None], self.age_ND)
            self.age_ND = age_N1D[:, 0]
        metre_N1C = model.metre_input(self.x_NTD[:, :t], 1)
        inputs_N1Z = model.inputs(self.x_NTD[:, t, None], age_N1D, metre_N1C)
        _, self.state = model.recurrence(inputs_N1Z, self.state)
        self.t += 1

    def select(self, row_N: Tensor) -> None:
        self.x_NTD, self.u_NTR = self.x_NTD[row_N], self.u_NTR[row_N]
        self.state = tuple(s[row_N] for s in self.state)
        if self.age_ND is not None:
            self.age_ND = self.age_ND[row_N]

    def log_prob(self, x_NFD: Tensor) -> Tensor:
        model, t, age_NFD = self.model, self.t, None
        age_NAD = None if self.age_ND is None else self.age_ND[:, None]
        if age_NAD is not None:
            age_NFD = note_ages(x_NFD, self.age_ND)
            age_NAD = torch.cat([age_NAD, age_NFD[:, :-1]], dim=1)
        before_NSD = torch.cat([self.x_NTD[:, :t], x_NFD[:, :-1]], dim=1)
        metre_NFC = model.metre_input(before_NSD, x_NFD.shape[1])
        u_NFR, _ = model.recurrence(model.inputs(x_NFD, age_NFD, metre_NFC), self.state)
        u_NFR, r_NFZ = u_NFR[:, :-1], None
        if model.attention:
            known = slice(max(0, t - model.attention.span), t)
            u_NSR = torch.cat([self.u_NTR[:, known], u_NFR], dim=1)
            x_NSD = torch.cat([self.x_NTD[:, known], x_NFD], dim=1)
            r_NFZ = model.attention(u_NFR, u_NSR, x_NSD, t - known.start)
        match_NFZ = model.match_input(before_NSD, x_NFD.shape[1])
        conditions = Conditions(u_NFR, r_NFZ, metre_NFC, age_NAD, match_NFZ)
        known_M = conditions.map(lambda z: z.flatten(0, 1))
        log_prob_M = self.law.log_prob(x_NFD.flatten(0, 1), *model.biases(known_M))
        return log_prob_M.unflatten(0, x_NFD.shape[:2])
