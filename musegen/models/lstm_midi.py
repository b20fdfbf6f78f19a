"""LSTM on MIDI messages: each message is a note, a velocity and a time, each with its own head.

After "Neural Mozart" (Zhang Jiang's course): a piece is a stream of (note, velocity, time)
messages, three embeddings side by side feed an LSTM, three softmax heads predict the next
message, and the loss is the sum of the three cross-entropies,

    L = L_note + L_velocity + L_time.

With independent heads the three are predicted from the state alone. With chained heads the sum
is the exact joint, −log p(note | past) − log p(velocity | note, past) − log p(time | note,
velocity, past): a release's velocity nearly decides its note, and what sounds decides how long.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torchmetrics import Metric

from musegen.codecs.messages import FIELDS, MessageCodec, messages_to_notes
from musegen.errors import UserError
from musegen.metrics.nll import FieldLikelihood
from musegen.models.base import Model
from musegen.models.layers.dropout import Dropout
from musegen.models.layers.softmax_sampler import Sampler
from musegen.specs import MessageBatch, Messages


class State(NamedTuple):
    """What is carried along a piece."""

    h: Any
    """The LSTM's hidden state: (layers, B, H), or for single steps one (B, H) per layer."""
    c: Any
    """Its cell state, alike."""
    age_BP: Tensor
    """0 where a pitch is silent, else how many messages ago it was struck, from 1 on."""


class IndependentHeads(nn.Module):
    """One softmax per field, each from the state alone."""

    def __init__(self, hidden: int, sizes: tuple[int, int, int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.out = nn.Linear(hidden, sum(sizes))

    def forward(self, h_ND: Tensor, active_NQ: Tensor, x_NF: Tensor) -> list[Tensor]:
        """Logits (N, V) per field; held notes and the true message x_NF are not looked at."""
        return list(self.out(h_ND).split(self.sizes, dim=-1))

    def sample(
        self, h_BD: Tensor, active_BQ: Tensor, sampler: Sampler, generator: Generator
    ) -> Tensor:
        """Draw the next message, (B, F)."""
        logits = self.out(h_BD).split(self.sizes, dim=-1)
        return torch.stack([sampler(logits_BV, generator) for logits_BV in logits], dim=-1)


class ChainedHeads(nn.Module):
    """Note from the state; velocity from state and note; time from state, note and velocity.

    Each of the later two is one hidden layer of `width` units whose input adds the projected
    state and the embeddings of the fields before it. Where held notes are read, the note's
    logits also see them directly, and the velocity knows whether its note sounds: of a sounding
    note the next message is nearly always the release.
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
        """Logits (N, V) per field, given the true fields before it."""
        note_logits, for_velocity, for_time = self._from(h_ND, active_NQ)
        note, velocity, _ = x_NF.unbind(-1)
        return [
            note_logits,
            self._velocity(for_velocity, active_NQ, note),
            self._time(for_time, note, velocity),
        ]

    def sample(
        self, h_BD: Tensor, active_BQ: Tensor, sampler: Sampler, generator: Generator
    ) -> Tensor:
        """Draw the next message, (B, F), each field given the fields drawn before it."""
        note_logits, for_velocity, for_time = self._from(h_BD, active_BQ)
        note = sampler(note_logits, generator)
        velocity = sampler(self._velocity(for_velocity, active_BQ, note), generator)
        time = sampler(self._time(for_time, note, velocity), generator)
        return torch.stack([note, velocity, time], dim=-1)

    def _from(self, h: Tensor, active: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        note_logits, for_velocity, for_time = self.from_state(h).split(self.split, dim=-1)
        if self.reads_active:
            note_logits = note_logits + self.active_for_note(active)
        return note_logits, for_velocity, for_time

    def _velocity(self, state: Tensor, active: Tensor, note: Tensor) -> Tensor:
        given = self.note_for_velocity(note)
        if self.reads_active:
            sounds = active.gather(-1, note[:, None])[:, 0].long()
            given = given + self.sounds_for_velocity(sounds)
        return self.velocity_out(F.relu(state + given))

    def _time(self, state: Tensor, note: Tensor, velocity: Tensor) -> Tensor:
        given = self.note_for_time(note) + self.velocity_for_time(velocity)
        return self.time_out(F.relu(state + given))


class LSTMMidi(Model):
    """Embeddings of note, velocity and time side by side → LSTM stack → three heads.

    - hidden, layers: the LSTM stack. dropout: between its layers and before the heads.
    - embedding: width of each field's embedding; null reads one-hots, as the course does.
    - heads: `chained` or `independent`; head_width: hidden units of the chained heads.
    - held: width of an embedding of the sounding notes and their ages, read beside each
      message; 0 leaves it out, as the course does. They are a function of the past, but one that
      an LSTM learns badly: without it releases miss their notes and the sounding ones pile up.

    The network is taught at every position that the batch's mask marks. Rows that continue
    (`MessageBatch.fresh_B` false) carry the state on, without gradients through the border:
    truncated back-propagation in training, whole pieces in evaluation.
    """

    name: ClassVar[str] = "lstm_midi"
    reads = (Messages,)
    codec_type = MessageCodec
    spec: Messages
    codec: MessageCodec

    def __init__(
        self,
        spec: Messages,
        codec: MessageCodec | None = None,
        hidden: int = 256,
        layers: int = 2,
        embedding: tuple[int, int, int] | None = (64, 32, 32),
        heads: Literal["chained", "independent"] = "chained",
        head_width: int = 128,
        active_note_dim: int = 64,
        dropout: float = 0.3,
    ) -> None:
        super().__init__(spec, codec)
        self.save_settings()
        if min(hidden, layers, head_width) < 1 or active_note_dim < 0 or not 0 <= dropout < 1:
            raise UserError(
                f"model: hidden={hidden}, layers={layers}, head_width={head_width} must be at "
                f"least 1, active_note_dim={active_note_dim} not negative and dropout={dropout} in [0, 1)"
            )
        sizes = self.spec.sizes
        # One class more than each field has: "before the piece".
        tables = [
            _one_hot(size + 1) if embedding is None else nn.Embedding(size + 1, embedding[f])
            for f, size in enumerate(sizes)
        ]
        self.embed = nn.ModuleList(tables)
        width = sum(table.embedding_dim for table in tables) + active_note_dim
        self.embed_active = (
            nn.Linear(2 * self.spec.notes, active_note_dim, bias=False) if active_note_dim else None
        )
        self.lstm = nn.LSTM(
            width, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0
        )
        self.dropout = Dropout(dropout)
        self.heads: ChainedHeads | IndependentHeads = (
            ChainedHeads(hidden, sizes, head_width, active_note_dim > 0)
            if heads == "chained"
            else IndependentHeads(hidden, sizes)
        )
        self._carried: dict[str, State] = {}

    def forward(self, x_BTF: Tensor, state: State | None = None) -> tuple[Tensor, Tensor, State]:
        """Messages → the LSTM's output h_BTD and the held notes' features active_BTQ after each
        message, and the state to go on with."""
        silent_BP = torch.zeros(len(x_BTF), self.spec.notes, device=x_BTF.device).to(self.dtype)
        age_BTP = self._ages(x_BTF, state.age_BP if state else silent_BP)
        active_BTQ = self._active_features(age_BTP)
        cells = (state.h, state.c) if state else None
        h_BTD, (h, c) = self.lstm(self._embedded(x_BTF, active_BTQ), cells)
        return h_BTD, active_BTQ, State(h, c, age_BTP[:, -1])

    def step(
        self, x_BF: Tensor, state: State, layers: Sequence[Sequence[Tensor]]
    ) -> tuple[Tensor, Tensor, State]:
        """One message → h_BD, active_BQ and the next state; equals `forward` with T = 1.

        `layers` is `self.lstm.all_weights`, which takes its time to list them. Cell by cell: for
        a single step oneDNN's sequence kernel spends six times as long on repacking its weights
        as the cells need altogether.
        """
        age_BP = state.age_BP
        if self.embed_active is not None:
            struck_B1 = (x_BF[:, 1:2] > 0).to(age_BP.dtype)
            age_BP = (age_BP + age_BP.sign()).scatter_(1, x_BF[:, :1], struck_B1)
        active_BQ = self._active_features(age_BP)
        y_BD = self._embedded(x_BF, active_BQ)
        states = []
        for weights, h_BH, c_BH in zip(layers, state.h, state.c, strict=True):
            states.append(torch.lstm_cell(y_BD, (h_BH, c_BH), *weights))
            y_BD = states[-1][0]
        h, c = zip(*states, strict=True)
        return y_BD, active_BQ, State(h, c, age_BP)

    def _ages(self, x_BTF: Tensor, before_BP: Tensor) -> Tensor:
        """age_BTP after each message, from the ages before the first; all 0 where not read."""
        if self.embed_active is None:
            return before_BP[:, None].expand(-1, x_BTF.shape[1], -1)
        note_BT, struck_BT = x_BTF[..., 0], (x_BTF[..., 1] > 0).to(before_BP.dtype)
        # One column more: "before the piece" lands there and is cut off.
        age_BP = F.pad(before_BP, (0, 1))
        after = []
        for t in range(note_BT.shape[1]):
            older_BP = age_BP + age_BP.sign()
            age_BP = older_BP.scatter(1, note_BT[:, t : t + 1], struck_BT[:, t : t + 1])
            after.append(age_BP)
        return torch.stack(after, dim=1)[..., :-1]

    def _active_features(self, age_P: Tensor) -> Tensor:
        """(…, P) ages → (…, Q = 2P): whether each pitch sounds, and the logarithm of how long.

        Where they are not read the ages go through as they are.
        """
        if self.embed_active is None:
            return age_P
        return torch.cat([age_P.sign(), age_P.clamp_min(1).log()], dim=-1)

    def _embedded(self, x_F: Tensor, active_Q: Tensor) -> Tensor:
        """(…, F) classes and (…, Q) held-note features → (…, E), side by side."""
        parts = [embed(x_F[..., f]) for f, embed in enumerate(self.embed)]
        if self.embed_active is not None:
            parts.append(self.embed_active(active_Q))
        return torch.cat(parts, dim=-1)

    def nats(self, batch: MessageBatch, stage: str) -> tuple[Tensor, list[Tensor], Tensor]:
        """nats_NF of the N masked steps, their logits per field and their targets x_NF."""
        h_BTD, active_BTQ, state = self(batch.x_BLF[:, :-1], self._state(batch, stage))
        self._carried[stage] = State(state.h.detach(), state.c.detach(), state.age_BP)
        h_ND, active_NQ, x_NF = (
            _masked(every, batch.mask_BT) for every in (h_BTD, active_BTQ, batch.x_BLF[:, 1:])
        )
        logits = self.heads(self.dropout(h_ND), active_NQ, x_NF)
        nats = [F.cross_entropy(z, x_NF[:, f], reduction="none") for f, z in enumerate(logits)]
        return torch.stack(nats, dim=-1), logits, x_NF

    def losses(self, batch: MessageBatch) -> dict[str, Tensor]:
        nats_NF, _, _ = self.nats(batch, "train")
        # A rank whose rows are all idle (the end of an epoch of streams) counts nothing.
        return dict(zip(FIELDS, nats_NF.sum(0) / max(1, len(nats_NF)), strict=True))

    def num_predictions(self, batch: MessageBatch) -> int:
        return int(batch.mask_BT.sum())

    def new_metric(self) -> Metric:
        return FieldLikelihood(FIELDS)

    def score(self, batch: MessageBatch, metric: Metric, stage: str) -> None:
        nats_NF, logits, x_NF = self.nats(batch, stage)
        guess_NF = torch.stack([z.argmax(-1) for z in logits], dim=-1)
        metric.update(nats_NF, guess_NF == x_NF)

    def _state(self, batch: MessageBatch, stage: str) -> State | None:
        """The state that the batch before left, zeroed in the rows that start anew."""
        carried = self._carried.get(stage)
        if carried is None or len(carried.age_BP) != len(batch.fresh_B):
            return None
        keep_B1 = (~batch.fresh_B).to(carried.age_BP.dtype)[:, None]
        return State(*(kept * keep_B1 for kept in carried))

    def training_state(self) -> dict[str, Any]:
        """The state that the rows of the last batch left."""
        carried = self._carried.get("train")
        return super().training_state() | {"carried": None if carried is None else tuple(carried)}

    def load_training_state(self, state: dict[str, Any]) -> None:
        super().load_training_state(state)
        if state["carried"] is not None:
            self._carried["train"] = State(*state["carried"])

    def on_train_epoch_start(self) -> None:
        self._carried.pop("train", None)

    def on_validation_epoch_start(self) -> None:
        self._carried.pop("val", None)

    def on_test_epoch_start(self) -> None:
        self._carried.pop("test", None)

    @torch.inference_mode()
    def generate(
        self,
        n: int = 1,
        length: int = 800,
        temperature: float = 0.9,
        top_k: int = 0,
        top_p: float = 0.95,
        prime: Path | None = None,
        prime_seconds: float | None = None,
        include_prime: bool = False,
        seed: int = 0,
    ) -> list[np.ndarray]:
        """Compose n pieces of `length` messages each, as `NOTES` arrays.

        The state is carried from message to message. `prime` is a MIDI file whose messages are
        read first, those of its first `prime_seconds` where that is given; with `include_prime`
        the pieces begin with them. Training mode and the global random streams are left as they
        were. The defaults keep a little below the model's own
        distribution (temperature and top_p 1), whose rare classes add up over hundreds of
        messages: a quartet learnt at three voices then plays seven.

        Raises `UserError` for settings out of range and for a prime that has no notes.
        """
        if n < 1 or length < 1:
            raise UserError(f"n={n} and length={length} must be at least 1")
        sampler = Sampler(temperature, top_k, top_p)
        generator = torch.Generator(self.device).manual_seed(seed)
        start_TF = np.array([self.spec.sizes])  # "before the piece"
        primed_TF = np.empty((0, len(FIELDS)), np.int64)
        if prime is not None:
            primed_TF = self.codec.encode(self.codec.read(prime, prime_seconds))
            if not len(primed_TF):
                raise UserError(f"prime={prime}: no notes within the model's pitch range")
        training = self.training
        self.eval()
        try:
            read_BTF = torch.as_tensor(np.concatenate([start_TF, primed_TF]), device=self.device)
            h_BTD, active_BTQ, (h, c, age_BP) = self(read_BTF[None])
            h_BD, active_BQ = h_BTD[:, -1].expand(n, -1), active_BTQ[:, -1].expand(n, -1)
            state = State(
                h.expand(-1, n, -1).unbind(), c.expand(-1, n, -1).unbind(), age_BP.expand(n, -1)
            )
            drawn, layers = [], self.lstm.all_weights
            for _ in range(length):
                drawn.append(self.heads.sample(h_BD, active_BQ, sampler, generator))
                h_BD, active_BQ, state = self.step(drawn[-1], state, layers)
        finally:
            self.train(training)
        composed_BTF = torch.stack(drawn, dim=1).cpu().numpy()
        head_TF = primed_TF if include_prime else primed_TF[:0]
        return [
            messages_to_notes(self.codec.decode(np.concatenate([head_TF, piece_TF])))
            for piece_TF in composed_BTF
        ]


def _masked(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, T, …) → (N, …): the marked steps; whole windows are spared the copying back and forth."""
    return x_BT.flatten(0, 1) if mask_BT.all() else x_BT[mask_BT]


def _one_hot(size: int) -> nn.Embedding:
    return nn.Embedding.from_pretrained(torch.eye(size), freeze=True)
