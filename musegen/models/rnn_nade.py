"""RNN-NADE: a NADE for every frame of a sequence, with biases from a recurrent network.

After Boulanger-Lewandowski, Bengio & Vincent (ICML 2012), who replace the RBM of the RNN-RBM by a
NADE:

    b_v(t) = b_v + u(t−1) W_uv          b_h(t) = b_h + u(t−1) W_uh
    u(t)   = tanh(b_u + v(t) W_vu + u(t−1) W_uu), or an LSTM or GRU

    log p(v(1) … v(T)) = Σ_t log p(v(t) | u(t−1)),   each term a NADE with W, V, b_v(t), b_h(t)

Every term is exact (`musegen.models.layers.nade`), so the loss is −log p, and samples are exact.

The following parts are not in the paper, and are off by default:

- attention (`attention_heads`): r(t), causal multi-head attention to the piece's earlier frames
  (`musegen.models.layers.attention`), enters the biases as u does, with matrices W_rv and W_rh;
- note ages: log₂(1 + age) / 5 of each note is an input of u, and b_v(t) gets one number for each
  pitch and each bucket of the age of its note in frame t − 1;
- intervals: the NADE's units also act directly on the logits above them, with weights that depend
  on the interval only;
- clock: t modulo 2, 4, 8 and 16, one-hot, is an input of u and enters the biases of frame t. It
  starts at 0 in each training chunk, so the length of chunks should be a multiple of 16;
- frozen histories: in training, parts of the frames that u and the attention read are frozen, and
  the targets are the true frames (`musegen.models.layers.frozen_history`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from musegen.codecs.roll_codec import RollCodec
from musegen.constraints import (
    DropoutRate,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Seed,
    check_arguments,
)
from musegen.metrics.means import RowMeans
from musegen.metrics.roll_evaluation import predicted_pieces, report
from musegen.models.base import Model
from musegen.models.layers.attention import CausalAttention
from musegen.models.layers.clock import PERIODS, clock_one_hot
from musegen.models.layers.dropout import Dropout
from musegen.models.layers.frozen_history import freeze_history
from musegen.models.layers.nade import NADE
from musegen.models.layers.note_age import AGE_BUCKETS, note_ages
from musegen.models.layers.recurrence import Cell, Recurrence
from musegen.runtime.progress import track
from musegen.specs import RollBatch, Rolls

INITIAL_STD = 0.01
"""Standard deviation of the initial matrices of the biases, and of the tanh network."""
INITIAL_LOG_ODDS = -3.0
"""The initial b_v: about 4 of 88 notes sound."""
ATTENTION_HEAD_WIDTH = 32
"""Dimension of each head's queries and keys."""
MIDDLE_C = 60
SAMPLED_FRAMES = 512
"""The number of frames that are sampled together for the accuracy."""


class RNNNADE(Model):
    """NADEs with `hidden` units, conditioned on a recurrent network with `recurrent` units.

    - cell: `tanh` (the paper's), `lstm` or `gru`.
    - dropout: of u where it enters the biases.
    - learn_initial_state: learn u(0), which is 0 otherwise.
    - attention_heads: heads of causal attention to the piece's earlier frames, at most
      `attention_span` frames back; 0, as in the paper, has no attention.
    - attention_dropout: of r where it enters the biases.
    - intervals: add direct weights between the notes of a frame, one for each interval.
    - note_age: use the age of each note, as an input of u and in b_v.
    - clock: use t modulo 2, 4, 8 and 16, as an input of u and in the biases.
    - frozen_histories: the probability that a freeze of the history starts at each place where one
      may start; in training only.
    - flipped_notes: the fraction of the notes of the history that is flipped; in training only.

    In validation `log_likelihood` is exact, in nats per frame, over all frames. Raises `UserError`
    for a setting outside its range.
    """

    name: ClassVar[str] = "rnn_nade"
    reads = (Rolls,)
    codec_type = RollCodec
    fits_16_bits = False
    monitor = ("val/log_likelihood", "max")
    scores = ("log_likelihood",)
    loss_metric = (-1, "log_likelihood")
    spec: Rolls
    smallest_age_A: Tensor

    @check_arguments
    def __init__(
        self,
        spec: Rolls,
        codec: RollCodec | None = None,
        hidden: PositiveInt = 150,
        recurrent: PositiveInt = 100,
        cell: Cell = "tanh",
        dropout: DropoutRate = 0.0,
        learn_initial_state: bool = False,
        attention_heads: NonNegativeInt = 0,
        attention_span: PositiveInt = 512,
        attention_dropout: DropoutRate = 0.0,
        intervals: bool = False,
        note_age: bool = False,
        clock: bool = False,
        frozen_histories: Probability = 0.0,
        flipped_notes: Probability = 0.0,
    ) -> None:
        super().__init__(spec, codec)
        self.save_settings()
        self.note_age, self.clock = note_age, clock
        self.frozen_histories, self.flipped_notes = frozen_histories, flipped_notes
        visible = self.spec.pitches
        lowest = (self.codec or RollCodec()).pitch_range[0]
        self.low_pitches = min(max(MIDDLE_C - lowest, 0), visible)
        clock_size = sum(PERIODS) if clock else 0
        inputs = visible * (2 if note_age else 1) + clock_size
        self.recurrence = Recurrence(cell, inputs, recurrent, INITIAL_STD, learn_initial_state)
        self.dropout, self.attention_dropout = Dropout(dropout), Dropout(attention_dropout)
        self.attention: CausalAttention | None = None
        conditions = recurrent + clock_size
        if attention_heads:
            self.attention = CausalAttention(
                recurrent, visible, attention_heads, ATTENTION_HEAD_WIDTH, attention_span
            )
            conditions += self.attention.out_features
        # z(t) is u(t−1), r(t) and the clock, joined; W_zv is W_uv, W_rv and the clock's matrix.
        self.W_zv = nn.Parameter(torch.randn(conditions, visible) * INITIAL_STD)
        self.W_zh = nn.Parameter(torch.randn(conditions, hidden) * INITIAL_STD)
        self.b_v = nn.Parameter(torch.full((visible,), INITIAL_LOG_ODDS))
        self.b_h = nn.Parameter(torch.zeros(hidden))
        if note_age:
            self.b_age_AD = nn.Parameter(torch.zeros(1 + len(AGE_BUCKETS), visible))
            # A buffer is on the device already: copying the ages to a GPU in every update would
            # make the CPU wait.
            self.register_buffer("smallest_age_A", torch.tensor(AGE_BUCKETS), persistent=False)
        self.nade = NADE(visible, hidden, intervals)

    # --- Training ---------------------------------------------------------------------------

    def num_predictions(self, batch: RollBatch) -> Tensor:
        return batch.mask_BT.sum()

    def losses(self, batch: RollBatch) -> dict[str, Tensor]:
        history_BTD = batch.x_BTD
        if self.training:
            history_BTD = freeze_history(
                *batch, self.low_pitches, self.frozen_histories, self.flipped_notes
            )
        log_prob_BT = self.log_prob(batch, history_BTD) * batch.mask_BT
        return {"nll": -log_prob_BT.sum() / batch.mask_BT.sum()}

    def log_prob(self, batch: RollBatch, history_BTD: Tensor | None = None) -> Tensor:
        """log p(v(t) | v(1) … v(t−1)) of every frame, padding included, (B, T), in nats.

        `history_BTD` are the frames to condition on, if they are not the true ones.
        """
        x_BTD = batch.x_BTD
        b_v_ND, b_h_NH = self.all_biases(x_BTD if history_BTD is None else history_BTD)
        with torch.autocast(x_BTD.device.type, enabled=False):
            log_prob_N = self.nade.log_prob(x_BTD.flatten(0, 1), b_v_ND, b_h_NH)
        return log_prob_N.unflatten(0, x_BTD.shape[:2])

    def all_biases(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """b_v(t) and b_h(t) of every frame of a batch of sequences, (B·T, D) and (B·T, H)."""
        age_BTD = note_ages(x_BTD) if self.note_age else None
        u_BTR = self.recurrence.states_before(self.inputs(x_BTD, age_BTD))
        r_BTZ = self.attention.all_steps(u_BTR, x_BTD) if self.attention else None
        clock_BTC = self.clock_input(x_BTD) if self.clock else None
        before_BTD = None if age_BTD is None else F.pad(age_BTD[:, :-1], (0, 0, 1, 0))
        others = (None if z is None else z.flatten(0, 1) for z in (r_BTZ, clock_BTC, before_BTD))
        return self.biases(u_BTR.flatten(0, 1), *others)

    def inputs(self, x_BTD: Tensor, age_BTD: Tensor | None, first: int = 0) -> Tensor:
        """The inputs of u for the frames t = `first`, `first` + 1, … of each piece."""
        parts = [x_BTD]
        if age_BTD is not None:
            parts.append((1 + age_BTD.type_as(x_BTD)).log2() / 5)
        if self.clock:
            parts.append(self.clock_input(x_BTD, first))
        return torch.cat(parts, dim=-1) if len(parts) > 1 else x_BTD

    def clock_input(self, x_BTD: Tensor, first: int = 0) -> Tensor:
        """The clock at frames t = `first`, `first` + 1, …, (B, T, C)."""
        clock_TC = clock_one_hot(x_BTD.shape[1], first, device=x_BTD.device)
        return clock_TC.type_as(x_BTD).expand(len(x_BTD), -1, -1)

    def biases(
        self,
        u_NR: Tensor,
        r_NZ: Tensor | None = None,
        clock_NC: Tensor | None = None,
        age_ND: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """b_v(t) and b_h(t) from u(t−1), r(t), the clock at t and the note ages in frame t − 1."""
        parts = [self.dropout(u_NR)]
        if r_NZ is not None:
            parts.append(self.attention_dropout(r_NZ))
        if clock_NC is not None:
            parts.append(clock_NC)
        z_NZ = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        b_v_ND = torch.addmm(self.b_v, z_NZ, self.W_zv)
        b_h_NH = torch.addmm(self.b_h, z_NZ, self.W_zh)
        if age_ND is not None:
            bucket_ND = torch.bucketize(age_ND, self.smallest_age_A, right=True)
            pitch_D = torch.arange(age_ND.shape[1], device=age_ND.device)
            b_v_ND = b_v_ND + self.b_age_AD[bucket_ND, pitch_D]
        return b_v_ND.type_as(self.b_v), b_h_NH.type_as(self.b_h)

    # --- Evaluation -------------------------------------------------------------------------

    def new_metric(self) -> Metric:
        return RowMeans(self.scores)

    def score(self, batch: RollBatch, metric: Metric, stage: str) -> None:
        metric.update(log_likelihood=self.log_prob(batch)[batch.mask_BT])

    def sample_frames(
        self, batch: RollBatch, samples: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """S samples of each frame that is not padding, given the true frames before it: (S, N, D)
        bool."""
        mask_N = batch.mask_BT.flatten()
        biases = [b[mask_N].split(SAMPLED_FRAMES) for b in self.all_biases(batch.x_BTD)]
        parts = []
        for b_v_ND, b_h_NH in zip(*biases, strict=True):
            b_v_MD, b_h_MH = b_v_ND.repeat(samples, 1), b_h_NH.repeat(samples, 1)
            v_MD, _ = self.nade.sample(b_v_MD, b_h_MH, generator=generator)
            parts.append(v_MD.bool().unflatten(0, (samples, -1)))
        return torch.cat(parts, dim=1)

    @torch.inference_mode()
    @check_arguments
    def assess(
        self,
        data: Any,
        split: Literal["test", "val"] = "test",
        samples: NonNegativeInt = 50,
        seed: Seed = 0,
    ) -> dict[str, float]:
        """Exact log-likelihood (nats per frame) and accuracy (percent) of all frames of a split.

        Also the log-likelihood of frames after repeated and after new contexts, and of pieces that
        share no top line with training pieces (`musegen.metrics.roll_evaluation`).

        - samples: of each frame, for the accuracy; 0 leaves it out.
        """
        loader = data.test_dataloader() if split == "test" else data.val_dataloader()
        batches = (RollBatch(b.x_BTD.to(self.b_v), b.mask_BT.to(self.device)) for b in loader)
        generator = torch.Generator(self.device).manual_seed(seed)
        pieces = predicted_pieces(self, batches, samples, generator)
        return report(pieces, getattr(data, "rolls", {}).get("train"))

    # --- Generation -------------------------------------------------------------------------

    @torch.inference_mode()
    @check_arguments
    def generate(
        self,
        n: PositiveInt = 4,
        length: PositiveInt = 200,
        temperature: PositiveFloat = 1.0,
        repeats: Literal["sustain", "retrigger"] | None = None,
        prime: Path | None = None,
        prime_seconds: float | None = None,
        include_prime: bool = False,
        seed: Seed = 0,
    ) -> list[np.ndarray]:
        """n generated pieces of `length` frames by exact ancestral sampling, as `NOTES` arrays.

        - temperature: divides the logit of each note given the notes below it.
        - repeats: whether a pitch in successive frames is one note (`sustain`) or a new note in
          each (`retrigger`); null uses the codec's setting.
        - prime: a MIDI file, or its first `prime_seconds`, that the pieces continue; with
          `include_prime` the result contains it.

        Training mode and the global random streams are not changed. Raises `UserError` for a
        setting outside its range and for a prime without notes.
        """
        codec = self.codec if repeats is None else replace(self.codec, repeats=repeats)
        generator = torch.Generator(self.device).manual_seed(seed)
        prime_TD = codec.prime_frames(prime, prime_seconds)
        training = self.training
        self.eval()
        try:
            prime_BTD = torch.from_numpy(prime_TD).to(self.b_v).expand(n, -1, -1)
            x_BTD = self.continue_frames(prime_BTD, length, temperature, generator)[0]
        finally:
            self.train(training)
        first = 0 if include_prime else len(prime_TD)
        return [codec.decode(piece_TD) for piece_TD in x_BTD[:, first:].float().cpu().numpy()]

    def continue_frames(
        self,
        prime_BTD: Tensor,
        length: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The prime with `length` sampled frames after it, (B, T + length, D), and the log
        probability of each sampled frame, (B, length)."""
        rows, primed = prime_BTD.shape[:2]
        x_BTD = F.pad(prime_BTD, (0, 0, 0, length))
        log_prob_BT = x_BTD.new_zeros(rows, length)
        state = self.recurrence.start(rows)
        u_BTR = state[0].new_zeros(*x_BTD.shape[:2], state[0].shape[1])
        age_BTD = note_ages(prime_BTD) if self.note_age else None
        if primed:
            u_BSR, state = self.recurrence(self.inputs(prime_BTD, age_BTD), state)
            u_BTR[:, :primed] = u_BSR[:, :-1]
        # The note ages in the last frame so far; before the first frame no note sounds.
        age_BD = None if age_BTD is None else F.pad(age_BTD, (0, 0, 1, 0))[:, -1].contiguous()
        for i in track(range(length), "generating", "frames"):
            t = primed + i
            u_BTR[:, t] = state[0]
            r_BZ = self.attention.step(t, u_BTR, x_BTD) if self.attention else None
            clock_BC = self.clock_input(x_BTD[:, t, None], t)[:, 0] if self.clock else None
            biases = self.biases(state[0], r_BZ, clock_BC, age_BD)
            frame_BD, log_prob_BT[:, i] = self.nade.sample(*biases, temperature, generator)
            x_BTD[:, t] = frame_BD
            age_B1D = None
            if age_BD is not None:
                age_B1D = note_ages(frame_BD[:, None], age_BD)
                age_BD = age_B1D[:, 0]
            _, state = self.recurrence(self.inputs(frame_BD[:, None], age_B1D, t), state)
        return x_BTD, log_prob_BT
