"""RNN-NADE: at every frame of a sequence a NADE, its biases from a recurrent net.

After Boulanger-Lewandowski, Bengio & Vincent (ICML 2012), where the NADE takes the place of the
RNN-RBM's RBM:

    b_v(t) = b_v + u(t−1) W_uv          b_h(t) = b_h + u(t−1) W_uh
    u(t)   = tanh(b_u + v(t) W_vu + u(t−1) W_uu), or an LSTM or GRU

    log p(v(1) … v(T)) = Σ_t log p(v(t) | u(t−1)),   each term a NADE with W, V, b_v(t), b_h(t)

Every term is exact (`musegen.models.layers.nade`), so the loss is −log p itself, and frames are
drawn exactly.

What the paper's model does not have, and what is off by default:

- attention (`attention_heads`): r(t), what followed when the piece last stood as it stands now
  (`musegen.models.layers.attention`), enters the biases as u does, by W_rv and W_rh;
- note ages: u also reads log₂(1 + age)/5 of each sounding note, and b_v(t) gets one number for
  each pitch and each bucket of the age that its note has in frame t − 1;
- intervals: the NADE's units also act directly on the logits above them, all pitches alike;
- clock: t modulo 2, 4, 8 and 16, one-hot, is read by u and enters the biases of frame t; training
  chunks count from 0, so that their length should be a multiple of 16;
- frozen histories: in training the frames that u and the attention read stand still at times,
  while the targets are true (`musegen.models.layers.frozen_history`).
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
from musegen.models.layers.clock import PERIODS
from musegen.models.layers.clock import clock as clock_hands
from musegen.models.layers.dropout import Dropout
from musegen.models.layers.frozen_history import freeze_history
from musegen.models.layers.nade import NADE
from musegen.models.layers.note_age import AGE_BUCKETS, note_ages
from musegen.models.layers.recurrence import Cell, Recurrence
from musegen.runtime.progress import track
from musegen.specs import RollBatch, Rolls

INITIAL_STD = 0.01
"""Of the matrices into the biases, and of the tanh net's."""
INITIAL_LOG_ODDS = -3.0
"""Of b_v: about 4 of 88 notes sound."""
ATTENTION_HEAD_WIDTH = 32
"""Numbers in each query and key of the attention."""
MIDDLE_C = 60
SAMPLED_FRAMES = 512
"""That are sampled together for their accuracy."""


class RNNNADE(Model):
    """NADEs with `hidden` units conditioned on `recurrent` units.

    - cell: `tanh` (the paper's), `lstm` or `gru`.
    - dropout: of u where it enters the biases; attention_dropout: of r there.
    - learn_initial_state: learn u(0), which is 0 otherwise.
    - attention_heads: of the attention to the piece's own past, `attention_span` frames back at
      most; the paper has none.
    - intervals, note_age, clock: whether there are the terms and inputs of these names.
    - frozen_histories: the probability of a frozen history at each place where one may begin; flipped_notes: the
      fraction of the units that is flipped in what is read. Both in training only.

    In validation `log_likelihood` is exact: nats per frame, over all frames.
    """

    name: ClassVar[str] = "rnn_nade"
    reads = (Rolls,)
    codec_type = RollCodec
    fits_16_bits = False
    monitor = ("val/log_likelihood", "max")
    spec: Rolls
    least_age_A: Tensor

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
        hands = sum(PERIODS) if clock else 0
        inputs = visible * (2 if note_age else 1) + hands
        self.recurrence = Recurrence(cell, inputs, recurrent, INITIAL_STD, learn_initial_state)
        self.dropout, self.attention_dropout = Dropout(dropout), Dropout(attention_dropout)
        self.attention: CausalAttention | None = None
        known = recurrent + hands
        if attention_heads:
            self.attention = CausalAttention(
                recurrent, visible, attention_heads, ATTENTION_HEAD_WIDTH, attention_span
            )
            known += self.attention.out_features
        # Below each other the matrices of what the biases depend on: W_uv, W_rv and the clock's.
        self.W_zv = nn.Parameter(torch.randn(known, visible) * INITIAL_STD)
        self.W_zh = nn.Parameter(torch.randn(known, hidden) * INITIAL_STD)
        self.b_v = nn.Parameter(torch.full((visible,), INITIAL_LOG_ODDS))
        self.b_h = nn.Parameter(torch.zeros(hidden))
        if note_age:
            self.b_age_AD = nn.Parameter(torch.zeros(1 + len(AGE_BUCKETS), visible))
            # Kept on the device: to send them there in every update would let a GPU wait.
            self.register_buffer("least_age_A", torch.tensor(AGE_BUCKETS), persistent=False)
        self.nade = NADE(visible, hidden, intervals)

    # --- Training ---------------------------------------------------------------------------

    def num_predictions(self, batch: RollBatch) -> Tensor:
        return batch.mask_BT.sum()

    def losses(self, batch: RollBatch) -> dict[str, Tensor]:
        read_BTD = batch.x_BTD
        if self.training:
            read_BTD = freeze_history(*batch, self.low_pitches, self.frozen_histories, self.flipped_notes)
        log_prob_BT = self.log_prob(batch, read_BTD) * batch.mask_BT
        return {"nll": -log_prob_BT.sum() / batch.mask_BT.sum()}

    def log_prob(self, batch: RollBatch, read_BTD: Tensor | None = None) -> Tensor:
        """log p(v(t) | v(1) … v(t−1)) of every frame, (B, T), in nats; of padding too.

        `read_BTD`: the frames that the histories consist of, where they are not the true ones.
        """
        x_BTD = batch.x_BTD
        b_v_ND, b_h_NH = self.biases_before_each(x_BTD if read_BTD is None else read_BTD)
        with torch.autocast(x_BTD.device.type, enabled=False):
            log_prob_N = self.nade.log_prob(x_BTD.flatten(0, 1), b_v_ND, b_h_NH)
        return log_prob_N.unflatten(0, x_BTD.shape[:2])

    def biases_before_each(self, x_BTD: Tensor) -> tuple[Tensor, Tensor]:
        """b_v(t) and b_h(t) of every frame of some sequences, (B T, D) and (B T, H)."""
        age_BTD = note_ages(x_BTD) if self.note_age else None
        u_BTR = self.recurrence.states_before(self.inputs(x_BTD, age_BTD))
        r_BTZ = self.attention.all_steps(u_BTR, x_BTD) if self.attention else None
        hands_BTC = self.hands(x_BTD) if self.clock else None
        before_BTD = None if age_BTD is None else F.pad(age_BTD[:, :-1], (0, 0, 1, 0))
        more = (None if z is None else z.flatten(0, 1) for z in (r_BTZ, hands_BTC, before_BTD))
        return self.biases(u_BTR.flatten(0, 1), *more)

    def inputs(self, x_BTD: Tensor, age_BTD: Tensor | None, first: int = 0) -> Tensor:
        """What u reads of frames `first`, `first` + 1, … of their pieces."""
        parts = [x_BTD]
        if age_BTD is not None:
            parts.append((1 + age_BTD.type_as(x_BTD)).log2() / 5)
        if self.clock:
            parts.append(self.hands(x_BTD, first))
        return torch.cat(parts, dim=-1) if len(parts) > 1 else x_BTD

    def hands(self, x_BTD: Tensor, first: int = 0) -> Tensor:
        """The clock at frames `first`, `first` + 1, …, (B, T, C)."""
        hands_TC = clock_hands(x_BTD.shape[1], first, device=x_BTD.device)
        return hands_TC.type_as(x_BTD).expand(len(x_BTD), -1, -1)

    def biases(
        self,
        u_NR: Tensor,
        r_NZ: Tensor | None = None,
        hands_NC: Tensor | None = None,
        age_ND: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """b_v(t) and b_h(t) from u(t−1), r(t), the clock at t and the ages in frame t − 1."""
        known = [self.dropout(u_NR)]
        if r_NZ is not None:
            known.append(self.attention_dropout(r_NZ))
        if hands_NC is not None:
            known.append(hands_NC)
        z_NZ = torch.cat(known, dim=1) if len(known) > 1 else known[0]
        b_v_ND = torch.addmm(self.b_v, z_NZ, self.W_zv)
        b_h_NH = torch.addmm(self.b_h, z_NZ, self.W_zh)
        if age_ND is not None:
            bucket_ND = torch.bucketize(age_ND, self.least_age_A, right=True)
            pitch_D = torch.arange(age_ND.shape[1], device=age_ND.device)
            b_v_ND = b_v_ND + self.b_age_AD[bucket_ND, pitch_D]
        return b_v_ND.type_as(self.b_v), b_h_NH.type_as(self.b_h)

    # --- Measuring --------------------------------------------------------------------------

    def new_metric(self) -> Metric:
        return RowMeans(["log_likelihood"])

    def score(self, batch: RollBatch, metric: Metric, stage: str) -> None:
        metric.update(log_likelihood=self.log_prob(batch)[batch.mask_BT])

    def sample_frames(
        self, batch: RollBatch, samples: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """(S, N, D) bool: each real frame of a batch drawn anew S times, given those before it."""
        real_N = batch.mask_BT.flatten()
        biases = [b[real_N].split(SAMPLED_FRAMES) for b in self.biases_before_each(batch.x_BTD)]
        parts = []
        for b_v_ND, b_h_NH in zip(*biases, strict=True):
            b_v_MD, b_h_MH = b_v_ND.repeat(samples, 1), b_h_NH.repeat(samples, 1)
            drawn_MD, _ = self.nade.sample(b_v_MD, b_h_MH, generator=generator)
            parts.append(drawn_MD.bool().unflatten(0, (samples, -1)))
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
        """The protocol's LL (nats per frame, exact) and ACC (percent) of all frames of a split.

        And the LL of frames in contexts that the piece had before, and of pieces that share no
        line with training (`musegen.metrics.roll_evaluation`). `samples`: of each frame, for its
        accuracy; 0 leaves it out.
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
        """Compose n pieces of `length` frames by exact ancestral sampling, as `NOTES` arrays.

        The logit of each note given those below it is divided by `temperature`. `repeats` says
        whether a pitch in successive frames is one note `sustain`, or `retrigger` in each; null leaves
        it to the codec. `prime` is a MIDI file that is read first, or its first `prime_seconds`;
        with `include_prime` the pieces begin with it. Training mode and the global random streams
        are left as they were.

        Raises `UserError` for settings out of range and for a prime that has no notes.
        """
        codec = self.codec if repeats is None else replace(self.codec, repeats=repeats)
        generator = torch.Generator(self.device).manual_seed(seed)
        primed_TD = codec.prime_frames(prime, prime_seconds)
        training = self.training
        self.eval()
        try:
            primed_BTD = torch.from_numpy(primed_TD).to(self.b_v).expand(n, -1, -1)
            x_BTD = self.continued(primed_BTD, length, temperature, generator)[0]
        finally:
            self.train(training)
        first = 0 if include_prime else len(primed_TD)
        return [codec.decode(piece_TD) for piece_TD in x_BTD[:, first:].float().cpu().numpy()]

    def continued(
        self,
        primed_BTD: Tensor,
        length: int,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The sequences with `length` frames more, and the log p each of those was drawn with.

        (B, T + length, D) and (B, length); the arguments are those of `generate`.
        """
        rows, primed = primed_BTD.shape[:2]
        x_BTD = F.pad(primed_BTD, (0, 0, 0, length))
        log_prob_BT = x_BTD.new_zeros(rows, length)
        state = self.recurrence.start(rows)
        u_BTR = state[0].new_zeros(*x_BTD.shape[:2], state[0].shape[1])
        age_BTD = note_ages(primed_BTD) if self.note_age else None
        if primed:
            u_BSR, state = self.recurrence(self.inputs(primed_BTD, age_BTD), state)
            u_BTR[:, :primed] = u_BSR[:, :-1]
        # Of the frame before, each note's age; before the first frame none has sounded.
        age_BD = None if age_BTD is None else F.pad(age_BTD, (0, 0, 1, 0))[:, -1].contiguous()
        for i in track(range(length), "composing", "frames"):
            t = primed + i
            u_BTR[:, t] = state[0]
            r_BZ = self.attention.step(t, u_BTR, x_BTD) if self.attention else None
            hands_BC = self.hands(x_BTD[:, t, None], t)[:, 0] if self.clock else None
            biases = self.biases(state[0], r_BZ, hands_BC, age_BD)
            frame_BD, log_prob_BT[:, i] = self.nade.sample(*biases, temperature, generator)
            x_BTD[:, t] = frame_BD
            age_B1D = None
            if age_BD is not None:
                age_B1D = note_ages(frame_BD[:, None], age_BD)
                age_BD = age_B1D[:, 0]
            _, state = self.recurrence(self.inputs(frame_BD[:, None], age_B1D, t), state)
        return x_BTD, log_prob_BT
