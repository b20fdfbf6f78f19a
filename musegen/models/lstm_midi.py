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

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from musegen.codecs.labels import labels_to_generate
from musegen.codecs.messages import FIELDS, MessageCodec
from musegen.codecs.meter import bar_ticks, signature_of
from musegen.codecs.region import Keep, Region
from musegen.constraints import (
    BeatsPerMinute,
    DropoutRate,
    MidiPitch,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFraction,
    PositiveInt,
    PositiveTemperature,
    Probability,
    SampleCount,
    SampleLength,
    Seed,
    Temperature,
    check_arguments,
)
from musegen.metrics.nll import FieldNLL, LabelledNLL
from musegen.models.base import Model
from musegen.models.layers.class_selection import select_messages
from musegen.models.layers.dropout import Dropout
from musegen.models.layers.message_heads import ChainedHeads, IndependentHeads
from musegen.models.layers.message_match import MatchLogits, drop_matches
from musegen.models.layers.past_attention import Past
from musegen.models.layers.repeated_history import repeat_history
from musegen.models.layers.softmax_sampler import Sampler
from musegen.models.message_generation import draw_messages, read_prime
from musegen.models.message_infilling import infill_messages, message_surprise, metre_of
from musegen.models.message_net import MessageNet, State
from musegen.render.shown import Samples, as_samples
from musegen.runtime.random_streams import Stream, torch_stream
from musegen.runtime.steps import report_step
from musegen.specs import LabelledMessageBatch, LabelledMessages, MessageBatch, Messages

MAX_BAR = 768
"""Ticks of the longest bar that is counted: eight bars of 4/4."""
TimeSignature = tuple[PositiveInt, Literal[1, 2, 4, 8, 16, 32]]
Batch = MessageBatch | LabelledMessageBatch
Sample = np.ndarray | tuple[str, np.ndarray]
"""`NOTES`, or (label, notes) from a model with labels."""


class LSTMMidi(MessageNet):
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
    - match_dropout: if the data has the longest match (`codec.longest_match`), the probability that
      a batch row is trained on without it.

    With matches, a match is embedded like a message and added to it, and the message that followed
    it gets more in the logits (`musegen.models.layers.message_match`).

    The label of a piece, if the data has labels, has an embedding that is added to each message's.

    The loss is over the positions of the batch's mask. A batch row that continues a sequence
    (`MessageBatch.fresh_B` false) starts from the previous batch's state, without gradients
    through it: truncated back-propagation in training, whole pieces in evaluation.

    Raises `UserError` for settings out of range.
    """

    name: ClassVar[str] = "lstm_midi"
    reads = (Messages, LabelledMessages)
    codec_type = MessageCodec
    scores = ("nll", *FIELDS, *(f"{field}_accuracy" for field in FIELDS))
    train_scores = FIELDS
    loss_metric = (1, "nll")
    bars_L: Tensor
    """The number of training messages by the ticks of their bar, if the spec has a clock."""

    @check_arguments
    def __init__(
        self,
        spec: Messages | LabelledMessages,
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
        match_dropout: Probability = 0.3,
        dropout: DropoutRate = 0.3,
    ) -> None:
        super().__init__(
            spec, codec, hidden, layers, embedding, active_note_dim, clock_dim,
            attention_heads, attention_span, dropout,
        )  # fmt: skip
        self.save_settings()
        self.repeated_histories, self.match_dropout = repeated_histories, match_dropout
        self.dropout = Dropout(dropout)
        self.heads: ChainedHeads | IndependentHeads = (
            ChainedHeads(hidden, self.spec.sizes, head_width, active_note_dim > 0)
            if heads == "chained"
            else IndependentHeads(hidden, self.spec.sizes)
        )
        self.match_logits = MatchLogits(hidden, len(FIELDS)) if self.spec.matches else None
        self._carried: dict[str, State] = {}
        if self.spec.clock:
            self.register_buffer("bars_L", torch.zeros(MAX_BAR + 1, dtype=torch.long))

    def nll(self, batch: Batch, stage: str) -> tuple[Tensor, list[Tensor], Tensor]:
        """nll_NF of the N steps of the mask, their logits per field and their targets x_NF."""
        label_B = batch.label_B if isinstance(batch, LabelledMessageBatch) else None
        clock_BTC = None if batch.clock_BLC is None else batch.clock_BLC[:, :-1]
        match_BTM = None if batch.match_BLM is None else batch.match_BLM[:, :-1]
        past_BTF = batch.x_BLF[:, :-1]
        if stage == "train":
            past_BTF = repeat_history(past_BTF, self.repeated_histories)
            if match_BTM is not None:
                match_BTM = drop_matches(match_BTM, self.spec.sizes, self.match_dropout)
        before = self._state(batch, stage)
        h_BTD, active_BTQ, state = self(past_BTF, before, label_B, clock_BTC, match_BTM)
        past = state.past and state.past.detached()
        self._carried[stage] = State(state.h.detach(), state.c.detach(), state.age_BP, past)
        h_ND, active_NQ, x_NF = (
            _masked(x_BT, batch.mask_BT) for x_BT in (h_BTD, active_BTQ, batch.x_BLF[:, 1:])
        )
        match_NM = None if match_BTM is None else _masked(match_BTM, batch.mask_BT)
        logits = self.logits(self.dropout(h_ND), active_NQ, x_NF, match_NM)
        nll = [F.cross_entropy(z, x_NF[:, f], reduction="none") for f, z in enumerate(logits)]
        return torch.stack(nll, dim=-1), logits, x_NF

    def logits(
        self, h_ND: Tensor, active_NQ: Tensor, x_NF: Tensor, match_NM: Tensor | None
    ) -> list[Tensor]:
        """The logits (N, V) of each field, given the true fields before it and the match."""
        logits: list[Tensor] = self.heads(h_ND, active_NQ, x_NF)
        if self.match_logits is not None:
            logits = self.match_logits(logits, h_ND, x_NF, match_NM)
        return logits

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        if batch.clock_BLC is not None:
            # Selecting by the mask, or bincount, would make the CPU wait for a GPU.
            bar_N = batch.clock_BLC[:, 1:, 1].clamp(max=MAX_BAR).flatten()
            self.bars_L.index_add_(0, bar_N, batch.mask_BT.flatten().long())
        nll_NF, _, _ = self.nll(batch, "train")
        # At the end of an epoch of streams all batch rows of a rank may be idle: 0 predictions.
        return dict(zip(FIELDS, nll_NF.sum(0) / max(1, len(nll_NF)), strict=True))

    def num_predictions(self, batch: Batch) -> int:
        return int(batch.mask_BT.sum())

    def new_metric(self) -> Metric:
        if self.codec is not None and self.codec.labels is not None:
            return LabelledNLL(FIELDS, self.codec.labels)
        return FieldNLL(FIELDS)

    def score(self, batch: Batch, metric: Metric, stage: str) -> None:
        nll_NF, logits, x_NF = self.nll(batch, stage)
        guess_NF = torch.stack([z.argmax(-1) for z in logits], dim=-1)
        if isinstance(metric, LabelledNLL):
            label_BT = batch.label_B[:, None].expand_as(batch.mask_BT)  # type: ignore[union-attr]
            metric.update(nll_NF, guess_NF == x_NF, _masked(label_BT, batch.mask_BT))
        else:
            metric.update(nll_NF, guess_NF == x_NF)

    def _state(self, batch: Batch, stage: str) -> State | None:
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

    def weights_from(self, source: Model) -> dict[str, Tensor]:
        """Pitches and labels may be a part of the source's (`select_messages`).

        Bars are counted again, in the training data of this model.
        """
        if self.codec is None or source.codec is None:
            return super().weights_from(source)
        counts = {"bars_L": torch.zeros_like(self.bars_L)} if self.spec.clock else {}
        return select_messages(source.state_dict(), source.codec, self.codec) | counts

    @check_arguments
    @torch.inference_mode()
    def generate(
        self,
        n: SampleCount = 1,
        length: SampleLength = 800,
        temperature: Temperature = 0.8,
        top_k: NonNegativeInt = 0,
        top_p: PositiveFraction = 0.85,
        key_strength: NonNegativeFloat = 0.5,
        prime: Path | None = None,
        prime_seconds: float | None = None,
        include_prime: bool = False,
        tempo: BeatsPerMinute | None = None,
        time_signature: TimeSignature | None = None,
        seed: Seed = 0,
        label: str | None = None,
    ) -> list[Sample]:
        """Generate n pieces of `length` messages each, as `NOTES` arrays.

        A model with labels returns (label, notes) pairs: n of `label`, or n of every label.

        - key_strength: how strongly notes of the key of the piece so far are preferred
          (`musegen.models.layers.key_weights`); 0 leaves the key to the model.
        - prime: a MIDI file whose messages the model reads first, of its first `prime_seconds` if
          given; with `include_prime` the pieces start with them.
        - tempo: quarter notes per minute if times are in beats; null is that of the prime, or of
          the codec.
        - time_signature: such as [3,4], if times are in beats; null is that of the prime, or the
          most frequent one in training.

        The defaults of temperature and top_p make rare classes less probable than the model does:
        over hundreds of messages they accumulate, and a model of quartets with three sounding
        voices then plays seven. Training mode and the global random streams do not change.
        Raises `UserError` for settings out of range, for a prime without notes and for a label
        that the model lacks.
        """
        labels = labels_to_generate(self.codec.labels, label, n)
        sampler = Sampler(temperature, top_k, top_p)
        generator = torch_stream(Stream.SAMPLING, seed)
        stream, prime_TF = read_prime(self.codec, prime, prime_seconds)
        usual = int(self.bars_L.argmax()) if self.spec.clock else 0
        bar = time_signature and bar_ticks(time_signature)
        clock_TC = self.codec.prime_clock(stream, prime_TF, usual, bar)
        head_TF = prime_TF if include_prime else prime_TF[:0]
        if tempo is None and self.codec.in_beats and len(stream):
            tempo = 60 / float(stream["seconds_per_beat"][-1])
        signature = time_signature or signature_of(int(clock_TC[-1, 1]))

        def pieces(drawn: list[Tensor]) -> list[Sample]:
            x_BTF = torch.stack(drawn, dim=1).cpu().numpy()
            streams = (self.codec.decode(np.concatenate([head_TF, x_TF])) for x_TF in x_BTF)
            notes = [self.codec.to_notes(stream, tempo, signature) for stream in streams]
            if labels is None or self.codec.labels is None:
                return list(notes)
            return [(self.codec.labels[i], piece) for i, piece in zip(labels, notes, strict=True)]

        drawn: list[Tensor] = []
        with self.evaluating():
            settings = sampler, generator, key_strength
            for x_BF in draw_messages(self, n, labels, length, prime_TF, clock_TC, *settings):
                drawn.append(x_BF)
                report_step(len(drawn), length, lambda: pieces(drawn))
        return pieces(drawn)

    @check_arguments
    def infill(
        self,
        notes: np.ndarray,
        start: float,
        end: float,
        pitches: tuple[MidiPitch, MidiPitch] = (0, 127),
        n: SampleCount = 1,
        temperature: PositiveTemperature = 1.0,
        sweeps: NonNegativeInt | None = None,
        seed: Seed = 0,
        keep: Keep = "none",
        tempo: BeatsPerMinute | None = None,
        time_signature: TimeSignature | None = None,
        label: str | None = None,
    ) -> Samples:
        """The piece `notes` with the region from `start` to `end` seconds written again, n times.

        The new notes are samples of what the model expects there, given all other notes, before
        and after. Notes that start outside the region do not change
        (`musegen.models.message_infilling`).

        - start, end: the region, in seconds.
        - pitches: the lowest and the highest MIDI pitch of the region.
        - temperature: divides the logits of all classes.
        - sweeps: how often the region is written once more, block by block, after the first time;
          more are closer to the model and slower. null is 3.
        - keep: notes of the region that stay: `melody`, the highest ones, `bass`, the lowest ones,
          or `none`. New notes are below the melody, or above the bass.
        - tempo: quarter notes per minute of `notes`, if times are in beats; null is the codec's.
        - time_signature: such as [3,4], of bars that are counted from the start of `notes`, if
          times are in beats; null is the most frequent one in training.
        - label: of the piece; null is the one under which it is most probable.

        Training mode and the global random streams do not change. Raises `UserError` for notes
        that are none, and for a region without length, outside the piece or the model's pitches.
        """
        region, metre = Region(start, end, *pitches, keep), metre_of(self, tempo, time_signature)
        settings = n, temperature, sweeps, metre, label, seed
        with self.evaluating():
            return as_samples(self.spec, infill_messages(self, notes, region, *settings))

    @check_arguments
    def surprise(
        self,
        notes: np.ndarray,
        tempo: BeatsPerMinute | None = None,
        time_signature: TimeSignature | None = None,
        label: str | None = None,
    ) -> np.ndarray:
        """−log p of the onset message of each note given all messages before it, in nats.

        A structured array with the fields start, end (seconds), pitch and nll, the sum over note,
        velocity and time; one row for each note in the model's pitch range, by start and pitch. In
        beats times are rounded to the model's ticks. The settings and errors are those of `infill`.
        """
        with self.evaluating():
            return message_surprise(self, notes, metre_of(self, tempo, time_signature), label)


def _masked(x_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """(B, T, …) → (N, …): the steps of the mask. A full mask needs no copy."""
    return x_BT.flatten(0, 1) if mask_BT.all() else x_BT[mask_BT]
