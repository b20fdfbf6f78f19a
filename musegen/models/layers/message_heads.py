"""The softmax heads of a message: note, velocity and time, independent or chained.

With chained heads the sum of the three cross-entropies is the exact joint negative log-likelihood,
−log p(note | past) − log p(velocity | note, past) − log p(time | note, velocity, past).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.energy.affine import dense_affine

Pick = Callable[[int, Tensor], Tensor]
"""(the number of a field, its logits (B, V)) → its classes (B,)."""
Draw = Callable[[Tensor, Tensor, Pick], Tensor]
"""The state h_BD and the sounding notes active_BQ → the next message (B, F)."""


class IndependentHeads(nn.Module):
    """One softmax per field, each from the state alone."""

    def __init__(self, hidden: int, sizes: tuple[int, int, int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.out = nn.Linear(hidden, sum(sizes))

    def forward(self, h_ND: Tensor, active_NQ: Tensor, x_NF: Tensor) -> list[Tensor]:
        """Logits (N, V) per field. The sounding notes and the true message x_NF are not used."""
        return list(self.out(h_ND).split(self.sizes, dim=-1))

    def drawing(self) -> Draw:
        """Draws the next message; only without gradients."""
        W_DV, b_V = _folded(self.out)

        def draw(h_BD: Tensor, active_BQ: Tensor, pick: Pick) -> Tensor:
            logits = dense_affine(h_BD, W_DV, b_V).split_with_sizes(self.sizes, -1)
            return torch.stack([pick(f, z_BV) for f, z_BV in enumerate(logits)], dim=-1)

        return draw


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

    def drawing(self) -> Draw:
        """Draws the next message, each field given the fields drawn before it; only without
        gradients. Does what `forward` does in fewer calls."""
        (W_DO, b_O), (W_WV, b_V), (W_WT, b_T) = map(
            _folded, (self.from_state, self.velocity_out, self.time_out)
        )
        notes, width, _ = self.split
        given_NX, sounds_X = self._given_note()
        by_velocity_VW = self.velocity_for_time.weight.detach()
        note_QN = self.active_for_note.weight.detach().t() if self.reads_active else None

        def draw(h_BD: Tensor, active_BQ: Tensor, pick: Pick) -> Tensor:
            z_BN, hidden_BX = dense_affine(h_BD, W_DO, b_O).split_with_sizes((notes, 2 * width), 1)
            if note_QN is not None:
                z_BN = torch.addmm(z_BN, active_BQ, note_QN)
            note_B = pick(0, z_BN)
            hidden_BX = hidden_BX + given_NX.index_select(0, note_B)
            if note_QN is not None:
                hidden_BX = hidden_BX.addcmul_(active_BQ.gather(1, note_B.unsqueeze(1)), sounds_X)
            for_velocity, for_time = hidden_BX.chunk(2, 1)
            velocity_B = pick(1, torch.addmm(b_V, for_velocity.relu(), W_WV))
            for_time = for_time.add_(by_velocity_VW.index_select(0, velocity_B)).relu_()
            time_B = pick(2, torch.addmm(b_T, for_time, W_WT))
            return torch.stack([note_B, velocity_B, time_B], dim=-1)

        return draw

    def _given_note(self) -> tuple[Tensor, Tensor]:
        """What a note adds to the hidden layers of velocity and time, side by side, if it is
        silent, and what is added if it sounds."""
        parts = [self.note_for_velocity.weight.detach(), self.note_for_time.weight.detach()]
        sounds_X = torch.zeros_like(parts[0][0]).repeat(2)
        if self.reads_active:
            silent_W, sounds_W = self.sounds_for_velocity.weight.detach()
            parts[0] = parts[0] + silent_W
            sounds_X[: len(silent_W)] = sounds_W - silent_W
        return torch.cat(parts, 1), sounds_X

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


def _folded(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weights and bias for products of few rows."""
    return linear.weight.detach().t().contiguous(), linear.bias.detach()
