"""LSTM on MIDI messages: a message is a note, a velocity and a time, each with its own head.

After "Neural Mozart" (Zhang Jiang's course): a piece is a stream of (note, velocity, time)
messages. Their concatenated embeddings are the input of an LSTM, three softmax heads predict the
next message, and the loss is the sum of the three cross-entropies,

    L = L_note + L_velocity + L_time.

Independent heads predict the three fields from the state alone. With chained heads the sum is
the exact joint negative log-likelihood, −log p(note | past) − log p(velocity | note, past) −
log p(time | note, velocity, past). The fields depend on each other: for example, the next message
of a sounding note is nearly always its release, and a release has velocity 0.
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

from musegen.codecs.messages import FIELDS, SCORE_MESSAGES, MessageCodec
from musegen.codecs.meter import bar_ticks, signature_of
from musegen.constraints import (
    BeatsPerMinute,
    DropoutRate,
    NonNegativeInt,
    PositiveFraction,
    PositiveInt,
    Probability,
    SampleCount,
    SampleLength,
    Seed,
    Temperature,
    check_arguments,
)
from musegen.errors import UserError
from musegen.metrics.nll import FieldNLL
from musegen.models.base import Model
from musegen.models.layers.active_notes import active_features, message_ages
from musegen.models.layers.beat_clock import BeatClock, advance
from musegen.models.layers.dropout import Dropout
from musegen.models.layers.message_heads import ChainedHeads, IndependentHeads
from musegen.models.layers.past_attention import Past, PastAttention
from musegen.models.layers.repeated_history import repeat_history
from musegen.models.layers.softmax_sampler import Sampler
from musegen.specs import MessageBatch, Messages

MAX_BAR = 768
"""Ticks of the longest bar that is counted: eight bars of 4/4."""


class State(NamedTuple):
    """The recurrent state along a piece."""

    h: Any
    """The LSTM's hidden state: (layers, B, H); in single steps one (B, H) per layer."""
    c: Any
    """The LSTM's cell state, of the same shapes."""
    age_BP: Tensor
    """0 for a silent pitch, otherwise the number of messages since its onset, starting at 1."""
    past: Past | None = None
    """What attention reads, if there is attention."""


class LSTMMidi(Model):
    """Concatenated embeddings of note, velocity and time → LSTM stack → three heads.

    - hidden, layers: the LSTM stack. dropout: between its layers and before the heads.
    - embedding: width of each field's embedding; null means one-hot inputs, as in the course.
    - heads: `chained` or `independent`; head_width: hidden units of the chained heads.
    - active_note_dim: width of an embedding of the sounding notes and their ages, concatenated to
      each message's embedding; 0 leaves it out, as in the course. They are a function of the past
      messages, but an LSTM learns it badly: without this input, releases miss their notes and
      more and more notes keep sounding.

    - clock_dim: for times in beats, width of an embedding of the place in the beat and in the bar,
      concatenated likewise; 0 leaves it out. It is a function of the past messages and of the time
      signature.

    - attention_heads: heads of causal attention to the piece's earlier messages, at most
      `attention_span` messages before; 0 has no attention.
    - repeated_histories: the probability that, at each place where one may start, a stretch of
      the history is replaced in training by repeats of what came before it; the targets are true.
      Without it a model with attention may repeat one note for ever.

    The loss is over the positions of the batch's mask. A batch row that continues a sequence
    (`MessageBatch.fresh_B` false) starts from the previous batch's state, without gradients
    through it: truncated back-propagation in training, whole pieces in evaluation.

    Raises `UserError` for settings out of range.
    """

    name: ClassVar[str] = "lstm_midi"
    reads = (Messages,)
    codec_type = MessageCodec
    spec: Messages
    codec: MessageCodec
    bars_L: Tensor
    """The number of training messages by the ticks of their bar, if the spec has a clock."""

    @check_arguments
    def __init__(
        self,
        spec: Messages,
        codec: MessageCodec | None = None,
        hidden: PositiveInt = 256,
        layers: PositiveInt = 2,
        embedding: tuple[PositiveInt, PositiveInt, PositiveInt] | None = (64, 32, 32),
        heads: Literal["chained", "independent"] = "chained",
        head_width: PositiveInt = 128,
        active_note_dim: NonNegativeInt = 64,
        clock_dim: NonNegativeInt = 32,
        attention_heads: NonNegativeInt = 0,
        attention_span: PositiveInt = 512,
        repeated_histories: Probability = 0.0,
        dropout: DropoutRate = 0.3,
    ) -> None:
        super().__init__(spec, codec)
        self.save_settings()
        sizes = self.spec.sizes
        # One additional class per field: "before the piece".
        tables = [
            _one_hot(size + 1) if embedding is None else nn.Embedding(size + 1, embedding[f])
            for f, size in enumerate(sizes)
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
        self.lstm = nn.LSTM(
            width, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0
        )
        self.attention = (
            PastAttention(hidden, width, attention_heads, attention_span)
            if attention_heads
            else None
        )
        self.repeated_histories = repeated_histories
        self.dropout = Dropout(dropout)
        self.heads: ChainedHeads | IndependentHeads = (
            ChainedHeads(hidden, sizes, head_width, active_note_dim > 0)
            if heads == "chained"
            else IndependentHeads(hidden, sizes)
        )
        self._carried: dict[str, State] = {}
        if self.spec.clock:
            self.register_buffer("bars_L", torch.zeros(MAX_BAR + 1, dtype=torch.long))

    def forward(
        self, x_BTF: Tensor, state: State | None = None, clock_BTC: Tensor | None = None
    ) -> tuple[Tensor, Tensor, State]:
        """Messages and their clock → the LSTM's output h_BTD, the features active_BTQ of the notes
        that sound after each message, and the next state."""
        silent_BP = torch.zeros(len(x_BTF), self.spec.notes, device=x_BTF.device).to(self.dtype)
        age_BP = state.age_BP if state else silent_BP
        if self.embed_active is None:
            age_BTP = active_BTQ = age_BP[:, None].expand(-1, x_BTF.shape[1], -1)
        else:
            age_BTP = message_ages(x_BTF, age_BP)
            active_BTQ = active_features(age_BTP)
        cells = (state.h, state.c) if state else None
        v_BTE = self._embedded(x_BTF, active_BTQ, clock_BTC)
        h_BTD, (h, c) = self.lstm(v_BTE, cells)
        past = None
        if self.attention is not None:
            h_BTD, past = self.attention(h_BTD, v_BTE, state.past if state else None)
        return h_BTD, active_BTQ, State(h, c, age_BTP[:, -1], past)

    def step(
        self,
        x_BF: Tensor,
        state: State,
        layers: Sequence[Sequence[Tensor]],
        clock_BC: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """One message → h_BD, active_BQ and the next state. Equals `forward` with T = 1.

        `layers` is `self.lstm.all_weights`, passed in because listing them is slow. The step runs
        cell by cell: for T = 1, oneDNN's sequence kernel spends six times as long on repacking its
        weights as all cells need together.
        """
        age_BP = active_BQ = state.age_BP
        if self.embed_active is not None:
            onset_B1 = (x_BF[:, 1:2] > 0).to(age_BP.dtype)
            age_BP = (age_BP + age_BP.sign()).scatter_(1, x_BF[:, :1], onset_B1)
            active_BQ = active_features(age_BP)
        v_BE = y_BD = self._embedded(x_BF, active_BQ, clock_BC)
        states = []
        for weights, h_BH, c_BH in zip(layers, state.h, state.c, strict=True):
            states.append(torch.lstm_cell(y_BD, (h_BH, c_BH), *weights))
            y_BD = states[-1][0]
        h, c = zip(*states, strict=True)
        past = None
        if self.attention is not None:
            y_B1D, past = self.attention(y_BD[:, None], v_BE[:, None], state.past)
            y_BD = y_B1D[:, 0]
        return y_BD, active_BQ, State(h, c, age_BP, past)

    def _embedded(self, x_F: Tensor, active_Q: Tensor, clock_C: Tensor | None) -> Tensor:
        """(…, F) classes, (…, Q) features of the sounding notes and (…, C) clock → (…, E)."""
        parts = [embed(x_F[..., f]) for f, embed in enumerate(self.embed)]
        if self.embed_active is not None:
            parts.append(self.embed_active(active_Q))
        if self.clock is not None:
            parts.append(self.clock(clock_C))
        return torch.cat(parts, dim=-1)

    def nll(self, batch: MessageBatch, stage: str) -> tuple[Tensor, list[Tensor], Tensor]:
        """nll_NF of the N steps of the mask, their logits per field and their targets x_NF."""
        clock_BTC = None if batch.clock_BLC is None else batch.clock_BLC[:, :-1]
        past_BTF = batch.x_BLF[:, :-1]
        if stage == "train":
            past_BTF = repeat_history(past_BTF, self.repeated_histories)
        h_BTD, active_BTQ, state = self(past_BTF, self._state(batch, stage), clock_BTC)
        past = state.past and state.past.detached()
        self._carried[stage] = State(state.h.detach(), state.c.detach(), state.age_BP, past)
        h_ND, active_NQ, x_NF = (
            _masked(x_BT, batch.mask_BT) for x_BT in (h_BTD, active_BTQ, batch.x_BLF[:, 1:])
        )
        logits = self.heads(self.dropout(h_ND), active_NQ, x_NF)
        nll = [F.cross_entropy(z, x_NF[:, f], reduction="none") for f, z in enumerate(logits)]
        return torch.stack(nll, dim=-1), logits, x_NF

    def losses(self, batch: MessageBatch) -> dict[str, Tensor]:
        if batch.clock_BLC is not None:
            bar_N = batch.clock_BLC[:, 1:, 1][batch.mask_BT].clamp(max=MAX_BAR)
            self.bars_L += torch.bincount(bar_N, minlength=MAX_BAR + 1)
        nll_NF, _, _ = self.nll(batch, "train")
        # At the end of an epoch of streams all batch rows of a rank may be idle: 0 predictions.
        return dict(zip(FIELDS, nll_NF.sum(0) / max(1, len(nll_NF)), strict=True))

    def num_predictions(self, batch: MessageBatch) -> int:
        return int(batch.mask_BT.sum())

    def new_metric(self) -> Metric:
        return FieldNLL(FIELDS)

    def score(self, batch: MessageBatch, metric: Metric, stage: str) -> None:
        nll_NF, logits, x_NF = self.nll(batch, stage)
        guess_NF = torch.stack([z.argmax(-1) for z in logits], dim=-1)
        metric.update(nll_NF, guess_NF == x_NF)

    def _state(self, batch: MessageBatch, stage: str) -> State | None:
        """The state after the previous batch, 0 in the batch rows that start a new sequence."""
        carried = self._carried.get(stage)
        if carried is None or len(carried.age_BP) != len(batch.fresh_B):
            return None
        keep_B1 = (~batch.fresh_B).to(carried.age_BP.dtype)[:, None]
        past = carried.past and carried.past.kept(~batch.fresh_B)
        h, c, age_BP = (part * keep_B1 for part in carried[:3])
        return State(h, c, age_BP, past)

    def training_state(self) -> dict[str, Any]:
        """Also the recurrent state after the last batch."""
        carried = self._carried.get("train")
        plain = carried and (*carried[:3], carried.past and tuple(carried.past))
        return super().training_state() | {"carried": plain}

    def load_training_state(self, state: dict[str, Any]) -> None:
        super().load_training_state(state)
        if state["carried"] is not None:
            h, c, age_BP, past = state["carried"]
            self._carried["train"] = State(h, c, age_BP, past and Past(*past))

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._carried.pop("train", None)

    def on_validation_epoch_start(self) -> None:
        self._carried.pop("val", None)

    def on_test_epoch_start(self) -> None:
        self._carried.pop("test", None)

    @check_arguments
    @torch.inference_mode()
    def generate(
        self,
        n: SampleCount = 1,
        length: SampleLength = 800,
        temperature: Temperature = 0.8,
        top_k: NonNegativeInt = 0,
        top_p: PositiveFraction = 0.8,
        prime: Path | None = None,
        prime_seconds: float | None = None,
        include_prime: bool = False,
        tempo: BeatsPerMinute | None = None,
        time_signature: tuple[PositiveInt, Literal[1, 2, 4, 8, 16, 32]] | None = None,
        seed: Seed = 0,
    ) -> list[np.ndarray]:
        """Generate n pieces of `length` messages each, as `NOTES` arrays.

        `prime` is a MIDI file whose messages the model reads first (of its first `prime_seconds`
        if given); with `include_prime` the pieces start with them. If times are in beats, `tempo`
        is in quarter notes per minute, by default the prime's or the codec's, and `time_signature`
        (such as [3, 4]) is by default the prime's or the most frequent one in training. Training
        mode and the global random streams do not change. The defaults make rare classes a little
        less probable than the model does (temperature 1 and top_p 1): over hundreds of messages
        they accumulate, and a model of quartets with three sounding voices then plays seven.

        Raises `UserError` for settings out of range and for a prime without notes.
        """
        sampler = Sampler(temperature, top_k, top_p)
        generator = torch.Generator(self.device).manual_seed(seed)
        stream, prime_TF = self._read_prime(prime, prime_seconds)
        usual = int(self.bars_L.argmax()) if self.spec.clock else 0
        bar = time_signature and bar_ticks(time_signature)
        clock_TC = self.codec.prime_clock(stream, prime_TF, usual, bar)
        training = self.training
        self.eval()
        try:
            pieces_BTF = self._draw(n, length, prime_TF, clock_TC, sampler, generator)
        finally:
            self.train(training)
        head_TF = prime_TF if include_prime else prime_TF[:0]
        if tempo is None and self.codec.in_beats and len(stream):
            tempo = 60 / float(stream["seconds_per_beat"][-1])
        signature = time_signature or signature_of(int(clock_TC[-1, 1]))
        return [
            self.codec.to_notes(
                self.codec.decode(np.concatenate([head_TF, piece_TF])), tempo, signature
            )
            for piece_TF in pieces_BTF
        ]

    def _read_prime(
        self, prime: Path | None, seconds: float | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The prime's stream and its classes, (T, F); T = 0 without a prime."""
        if prime is None:
            return np.empty(0, SCORE_MESSAGES), np.empty((0, len(FIELDS)), np.int64)
        stream = self.codec.in_range(self.codec.read(prime, seconds))
        if not len(stream):
            raise UserError(f"prime={prime}: no notes within the model's pitch range")
        return stream, self.codec.encode(stream)

    def _draw(
        self,
        n: int,
        length: int,
        prime_TF: np.ndarray,
        clock_TC: np.ndarray,
        sampler: Sampler,
        generator: Generator,
    ) -> np.ndarray:
        """The classes (n, length, F) of n pieces that continue the prime."""
        start_TF = np.array([self.spec.sizes])  # "before the piece"
        read_TF = torch.as_tensor(np.concatenate([start_TF, prime_TF]), device=self.device)
        clock_BTC = torch.as_tensor(clock_TC, device=self.device)[None]
        h_BTD, active_BTQ, (h, c, age_BP, past) = self(read_TF[None], None, clock_BTC)
        h_BD, active_BQ = h_BTD[:, -1].expand(n, -1), active_BTQ[:, -1].expand(n, -1)
        state = State(
            h.expand(-1, n, -1).unbind(),
            c.expand(-1, n, -1).unbind(),
            age_BP.expand(n, -1),
            past and Past(*(part.expand(n, *part.shape[1:]) for part in past)),
        )
        clock_BC = clock_BTC[:, -1].expand(n, -1)
        ticks_V = torch.as_tensor(self.codec.ticks, device=self.device)
        drawn, layers = [], self.lstm.all_weights
        for _ in range(length):
            drawn.append(self.heads.sample(h_BD, active_BQ, sampler, generator))
            if self.clock is not None:
                clock_BC = advance(clock_BC, ticks_V[drawn[-1][:, 2]])
            h_BD, active_BQ, state = self.step(drawn[-1], state, layers, clock_BC)
        return torch.stack(drawn, dim=1).cpu().numpy()


def _masked(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, T, …) → (N, …): the steps of the mask. A full mask needs no copy."""
    return x_BT.flatten(0, 1) if mask_BT.all() else x_BT[mask_BT]


def _one_hot(size: int) -> nn.Embedding:
    return nn.Embedding.from_pretrained(torch.eye(size), freeze=True)
