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
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torchmetrics import Metric

from musegen.codecs.messages import FIELDS, MessageCodec, messages_to_notes, notes_to_messages
from musegen.codecs.midi import read_notes
from musegen.contracts import MessageBatch, Messages, UserError
from musegen.metrics.likelihood import FieldLikelihood
from musegen.models.base import Model
from musegen.models.dropout import Dropout
from musegen.sampling import Sampler

State = tuple[Tensor, Tensor]
"""The LSTM's hidden and cell state, each (layers, B, H)."""
Cells = tuple[Sequence[Tensor], Sequence[Tensor]]
"""The same as one (B, H) for each layer."""


class IndependentHeads(nn.Module):
    """One softmax per field, each from the state alone."""

    def __init__(self, hidden: int, sizes: tuple[int, int, int]) -> None:
        super().__init__()
        self.sizes = sizes
        self.out = nn.Linear(hidden, sum(sizes))

    def forward(self, h_ND: Tensor, x_NF: Tensor) -> list[Tensor]:
        """Logits (N, V) per field; x_NF, the true message, is not looked at."""
        return list(self.out(h_ND).split(self.sizes, dim=-1))

    def sample(self, h_BD: Tensor, sampler: Sampler, generator: Generator) -> Tensor:
        """Draw the next message, (B, F)."""
        logits = self.out(h_BD).split(self.sizes, dim=-1)
        return torch.stack([sampler(logits_BV, generator) for logits_BV in logits], dim=-1)


class ChainedHeads(nn.Module):
    """Note from the state; velocity from state and note; time from state, note and velocity.

    Each of the later two is one hidden layer of `width` units whose input adds the projected
    state and the embeddings of the fields before it.
    """

    def __init__(self, hidden: int, sizes: tuple[int, int, int], width: int) -> None:
        super().__init__()
        notes, velocities, times = sizes
        self.split = (notes, width, width)
        self.from_state = nn.Linear(hidden, sum(self.split))
        self.note_for_velocity = nn.Embedding(notes, width)
        self.note_for_time = nn.Embedding(notes, width)
        self.velocity_for_time = nn.Embedding(velocities, width)
        self.velocity_out = nn.Linear(width, velocities)
        self.time_out = nn.Linear(width, times)

    def forward(self, h_ND: Tensor, x_NF: Tensor) -> list[Tensor]:
        """Logits (N, V) per field, given the true fields before it."""
        note_logits, *states = self.from_state(h_ND).split(self.split, dim=-1)
        note, velocity, _ = x_NF.unbind(-1)
        return [
            note_logits,
            self._velocity(states[0], note),
            self._time(states[1], note, velocity),
        ]

    def sample(self, h_BD: Tensor, sampler: Sampler, generator: Generator) -> Tensor:
        """Draw the next message, (B, F), each field given the fields drawn before it."""
        note_logits, *states = self.from_state(h_BD).split(self.split, dim=-1)
        note = sampler(note_logits, generator)
        velocity = sampler(self._velocity(states[0], note), generator)
        time = sampler(self._time(states[1], note, velocity), generator)
        return torch.stack([note, velocity, time], dim=-1)

    def _velocity(self, state: Tensor, note: Tensor) -> Tensor:
        return self.velocity_out(F.relu(state + self.note_for_velocity(note)))

    def _time(self, state: Tensor, note: Tensor, velocity: Tensor) -> Tensor:
        given = self.note_for_time(note) + self.velocity_for_time(velocity)
        return self.time_out(F.relu(state + given))


class LSTMMidi(Model):
    """Embeddings of note, velocity and time side by side → LSTM stack → three heads.

    - hidden, layers: the LSTM stack. dropout: between its layers and before the heads.
    - embedding: width of each field's embedding; null reads one-hots, as the course does.
    - heads: `chained` or `independent`; head_width: hidden units of the chained heads.

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
        dropout: float = 0.3,
    ) -> None:
        super().__init__(spec, codec)
        self.remember()
        if min(hidden, layers, head_width) < 1 or not 0 <= dropout < 1:
            raise UserError(
                f"model: hidden={hidden}, layers={layers}, head_width={head_width} must be at "
                f"least 1 and dropout={dropout} in [0, 1)"
            )
        sizes = self.spec.sizes
        # One class more than each field has: "before the piece".
        tables = [
            _one_hot(size + 1) if embedding is None else nn.Embedding(size + 1, embedding[f])
            for f, size in enumerate(sizes)
        ]
        self.embed = nn.ModuleList(tables)
        width = sum(table.embedding_dim for table in tables)
        self.lstm = nn.LSTM(
            width, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0
        )
        self.dropout = Dropout(dropout)
        self.heads: ChainedHeads | IndependentHeads = (
            ChainedHeads(hidden, sizes, head_width)
            if heads == "chained"
            else IndependentHeads(hidden, sizes)
        )
        self._carried: dict[str, State] = {}

    def forward(self, x_BTF: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Messages → the LSTM's output h_BTD at every step, and the state to go on with."""
        return self.lstm(self._embedded(x_BTF), state)

    def step(self, x_BF: Tensor, cells: Cells) -> tuple[Tensor, Cells]:
        """One message → the output h_BD and the next state; equals `forward` with T = 1.

        Cell by cell: for a single step oneDNN's sequence kernel spends six times as long on
        repacking its weights as the cells need altogether.
        """
        y_BD = self._embedded(x_BF)
        states = []
        for weights, h_BH, c_BH in zip(self.lstm.all_weights, *cells, strict=True):
            states.append(torch.lstm_cell(y_BD, (h_BH, c_BH), *weights))
            y_BD = states[-1][0]
        h, c = zip(*states, strict=True)
        return y_BD, (h, c)

    def _embedded(self, x_F: Tensor) -> Tensor:
        """(…, F) classes → (…, E): the fields' embeddings side by side."""
        return torch.cat([embed(x_F[..., f]) for f, embed in enumerate(self.embed)], dim=-1)

    def nats(self, batch: MessageBatch, stage: str) -> tuple[Tensor, list[Tensor], Tensor]:
        """nats_NF of the N masked steps, their logits per field and their targets x_NF."""
        h_BTD, state = self(batch.x_BLF[:, :-1], self._state(batch, stage))
        self._carried[stage] = (state[0].detach(), state[1].detach())
        h_ND = self.dropout(h_BTD[batch.mask_BT])
        x_NF = batch.x_BLF[:, 1:][batch.mask_BT]
        logits = self.heads(h_ND, x_NF)
        nats = [F.cross_entropy(z, x_NF[:, f], reduction="none") for f, z in enumerate(logits)]
        return torch.stack(nats, dim=-1), logits, x_NF

    def losses(self, batch: MessageBatch) -> dict[str, Tensor]:
        nats_NF, _, _ = self.nats(batch, "train")
        # A rank whose rows are all idle (the end of an epoch of streams) counts nothing.
        return dict(zip(FIELDS, nats_NF.sum(0) / max(1, len(nats_NF)), strict=True))

    def steps(self, batch: MessageBatch) -> int:
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
        if carried is None or carried[0].shape[1] != len(batch.fresh_B):
            return None
        keep_B1 = (~batch.fresh_B).to(carried[0].dtype)[:, None]
        return carried[0] * keep_B1, carried[1] * keep_B1

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
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        prime: Path | None = None,
        include_prime: bool = False,
        seed: int = 0,
    ) -> list[np.ndarray]:
        """Compose n pieces of `length` messages each, as `NOTES` arrays.

        The state is carried from message to message. `prime` is a MIDI file whose messages are
        read first; with `include_prime` the pieces begin with them. Training mode and the global
        random streams are left as they were.

        Raises `UserError` for settings out of range and for a prime that has no notes.
        """
        if n < 1 or length < 1:
            raise UserError(f"n={n} and length={length} must be at least 1")
        sampler = Sampler(temperature, top_k, top_p)
        generator = torch.Generator(self.device).manual_seed(seed)
        start_TF = np.array([self.spec.sizes])  # "before the piece"
        primed_TF = np.empty((0, len(FIELDS)), np.int64)
        if prime is not None:
            primed_TF = self.codec.encode(notes_to_messages(read_notes(prime)))
            if not len(primed_TF):
                raise UserError(f"prime={prime}: no notes within the model's pitch range")
        training = self.training
        self.eval()
        try:
            read_BTF = torch.as_tensor(np.concatenate([start_TF, primed_TF]), device=self.device)
            h_BTD, (h, c) = self(read_BTF[None])
            h_BD = h_BTD[:, -1].expand(n, -1)
            cells: Cells = h.expand(-1, n, -1).unbind(), c.expand(-1, n, -1).unbind()
            drawn = []
            for _ in range(length):
                drawn.append(self.heads.sample(h_BD, sampler, generator))
                h_BD, cells = self.step(drawn[-1], cells)
        finally:
            self.train(training)
        composed_BTF = torch.stack(drawn, dim=1).cpu().numpy()
        head_TF = primed_TF if include_prime else primed_TF[:0]
        return [
            messages_to_notes(self.codec.decode(np.concatenate([head_TF, piece_TF])))
            for piece_TF in composed_BTF
        ]


def _one_hot(size: int) -> nn.Embedding:
    return nn.Embedding.from_pretrained(torch.eye(size), freeze=True)
