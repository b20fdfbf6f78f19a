"""The softmax heads of a message: note, velocity and time, independent or chained.

With chained heads the sum of the three cross-entropies is the exact joint negative log-likelihood,
−log p(note | past) − log p(velocity | note, past) − log p(time | note, velocity, past).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from musegen.models.layers.softmax_sampler import Sampler


class IndependentHeads(nn.Module):
    """One softmax per field, each from the state alone."""

    def __init__(self, hidden: int, sizes: tuple[int, int, int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.out = nn.Linear(hidden, sum(sizes))

    def forward(self, h_ND: Tensor, active_NQ: Tensor, x_NF: Tensor) -> list[Tensor]:
        """Logits (N, V) per field. The sounding notes and the true message x_NF are not used."""
        return list(self.out(h_ND).split(self.sizes, dim=-1))

    def sample(
        self, h_BD: Tensor, active_BQ: Tensor, sampler: Sampler, generator: Generator
    ) -> Tensor:
        """Draw the next message, (B, F)."""
        logits = self.out(h_BD).split(self.sizes, dim=-1)
        return torch.stack([sampler(logits_BV, generator) for logits_BV in logits], dim=-1)


class ChainedHeads(nn.Module):
    """Note from the state; velocity from state and note; time from state, note and velocity.

    Velocity and time have one hidden layer of `width` units. Its input is the sum of the projected
    state and the embeddings of the preceding fields. With `reads_active` the note's logits are
    also a linear function of the sounding notes, and the velocity's input tells whether its note
    sounds: the next message of a sounding note is nearly always its release.
    """

    def __init__(
        self, hidden: int, sizes: tuple[int, int, int], width: int, reads_active: bool
    ) -> None:
        super().__init__()
        notes, velocities, times = sizes
        self.reads_active = reads_active
        self.split = (notes, width, width)
        self.from_state = nn.Linear(hidden, sum(self.split))
        self.note_for_velocity = nn.Embedding(notes, width)
        self.note_for_time = nn.Embedding(notes, width)
        self.velocity_for_time = nn.Embedding(velocities, width)
        self.velocity_out = nn.Linear(width, velocities)
        self.time_out = nn.Linear(width, times)
        if reads_active:
            self.active_for_note = nn.Linear(2 * notes, notes, bias=False)
            self.sounds_for_velocity = nn.Embedding(2, width)

    def forward(self, h_ND: Tensor, active_NQ: Tensor, x_NF: Tensor) -> list[Tensor]:
        """Logits (N, V) per field, given the true preceding fields."""
        note_logits, for_velocity, for_time = self._project_state(h_ND, active_NQ)
        note, velocity, _ = x_NF.unbind(-1)
        return [
            note_logits,
            self._velocity_logits(for_velocity, active_NQ, note),
            self._time_logits(for_time, note, velocity),
        ]

    def sample(
        self, h_BD: Tensor, active_BQ: Tensor, sampler: Sampler, generator: Generator
    ) -> Tensor:
        """Draw the next message, (B, F), each field given the fields drawn before it."""
        note_logits, for_velocity, for_time = self._project_state(h_BD, active_BQ)
        note = sampler(note_logits, generator)
        velocity = sampler(self._velocity_logits(for_velocity, active_BQ, note), generator)
        time = sampler(self._time_logits(for_time, note, velocity), generator)
        return torch.stack([note, velocity, time], dim=-1)

    def _project_state(self, h: Tensor, active: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The note's logits, and the state's part of the hidden layers of velocity and time."""
        note_logits, for_velocity, for_time = self.from_state(h).split(self.split, dim=-1)
        if self.reads_active:
            note_logits = note_logits + self.active_for_note(active)
        return note_logits, for_velocity, for_time

    def _velocity_logits(self, state: Tensor, active: Tensor, note: Tensor) -> Tensor:
        given = self.note_for_velocity(note)
        if self.reads_active:
            sounds = active.gather(-1, note[:, None])[:, 0].long()
            given = given + self.sounds_for_velocity(sounds)
        return self.velocity_out(F.relu(state + given))

    def _time_logits(self, state: Tensor, note: Tensor, velocity: Tensor) -> Tensor:
        given = self.note_for_time(note) + self.velocity_for_time(velocity)
        return self.time_out(F.relu(state + given))
