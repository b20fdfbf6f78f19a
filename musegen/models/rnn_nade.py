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

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torchmetrics import Metric

from musegen.codecs.roll_codec import RollCodec
from musegen.constraints import (
    DropoutRate,
    NonNegativeInt,
    PositiveInt,
    Probability,
    Seed,
    check_arguments,
)
from musegen.metrics.means import RowMeans
from musegen.metrics.roll_evaluation import predicted_pieces, report
from musegen.models.layers.frame_sampler import Given
from musegen.models.layers.nade import NADE
from musegen.models.layers.note_age import AGE_BUCKETS
from musegen.models.layers.recurrence import Cell
from musegen.models.recurrent_rolls import (
    Conditions,
    HistorySettings,
    RecurrentRolls,
    RecurrentSampler,
)
from musegen.runtime.random_streams import Stream, torch_stream
from musegen.specs import RollBatch, Rolls

INITIAL_STD = 0.01
"""Standard deviation of the initial matrices of the biases, and of the tanh network."""
INITIAL_LOG_ODDS = -3.0
"""The initial b_v: about 4 of 88 notes sound."""
SAMPLED_FRAMES = 512
"""The number of frames that are sampled together for the accuracy."""


class RNNNADE(RecurrentRolls):
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
    - metre: use how often notes started whole periods earlier, of 2 to 24 frames, in the same way.
    - longest_match: use what followed the longest match of the last frames earlier in the piece.
    - frozen_histories: the probability that a freeze of the history starts at each place where one
      may start; in training only.
    - flipped_notes: the fraction of the notes of the history that is flipped; in training only.

    In validation `log_likelihood` is exact, in nats per frame, over all frames. Raises `UserError`
    for a setting outside its range.
    """

    name: ClassVar[str] = "rnn_nade"
    fits_16_bits = False
    monitor = ("val/log_likelihood", "max")
    scores = ("log_likelihood",)
    loss_metric = (-1, "log_likelihood")

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
        metre: bool = False,
        longest_match: bool = False,
        frozen_histories: Probability = 0.0,
        flipped_notes: Probability = 0.0,
    ) -> None:
        history = HistorySettings(
            recurrent, cell, learn_initial_state, dropout, attention_heads, attention_span,
            attention_dropout, note_age, clock, metre, longest_match,
            frozen_histories, flipped_notes,
        )  # fmt: skip
        super().__init__(spec, codec, history, INITIAL_STD)
        self.save_settings()
        visible = self.spec.pitches
        attended = self.attention.out_features if self.attention else 0
        matched = self.match.out_features if self.match else 0
        conditions = recurrent + attended + self.metre.out_features + matched
        # z(t) is u(t−1), r(t), the metre and the longest match, joined; W_zv is W_uv, W_rv and so
        # on.
        self.W_zv = nn.Parameter(torch.randn(conditions, visible) * INITIAL_STD)
        self.W_zh = nn.Parameter(torch.randn(conditions, hidden) * INITIAL_STD)
        self.b_v = nn.Parameter(torch.full((visible,), INITIAL_LOG_ODDS))
        self.b_h = nn.Parameter(torch.zeros(hidden))
        if note_age:
            self.b_age_AD = nn.Parameter(torch.zeros(1 + len(AGE_BUCKETS), visible))
        self.nade = NADE(visible, hidden, intervals)

    # --- Training ---------------------------------------------------------------------------

    def losses(self, batch: RollBatch) -> dict[str, Tensor]:
        log_prob_BT = self.log_prob(batch, self.history(batch)) * batch.mask_BT
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
        known = self.conditions(x_BTD).map(lambda z_BTZ: z_BTZ.flatten(0, 1))
        return self.biases(known)

    def biases(self, conditions: Conditions) -> tuple[Tensor, Tensor]:
        u_NR, r_NZ, metre_NC, age_ND, match_NZ = conditions
        parts = [self.dropout(u_NR)]
        if r_NZ is not None:
            parts.append(self.attention_dropout(r_NZ))
        parts += [z_NZ for z_NZ in (metre_NC, match_NZ) if z_NZ is not None]
        z_NZ = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
        b_v_ND = torch.addmm(self.b_v, z_NZ, self.W_zv)
        b_h_NH = torch.addmm(self.b_h, z_NZ, self.W_zh)
        if age_ND is not None:
            b_v_ND = b_v_ND + self.age_bias(self.b_age_AD, age_ND)
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
        """Exact log-likelihood (nats per frame) and accuracy (fraction) of all frames of a split.

        Also the log-likelihood of frames after repeated and after new contexts, and of pieces that
        share no top line with training pieces (`musegen.metrics.roll_evaluation`).

        - samples: of each frame, for the accuracy; 0 leaves it out.
        """
        loader = data.test_dataloader() if split == "test" else data.val_dataloader()
        batches = (RollBatch(b.x_BTD.to(self.b_v), b.mask_BT.to(self.device)) for b in loader)
        generator = torch_stream(Stream.ASSESSMENT, seed, device=self.device)
        pieces = predicted_pieces(self, batches, samples, generator)
        return report(pieces, getattr(data, "rolls", {}).get("train"))

    # --- Generation -------------------------------------------------------------------------

    def frame_sampler(
        self, rows: int, frames: int, temperature: float, generator: Generator
    ) -> RecurrentSampler:
        law = NADEFrames(self.nade, temperature, generator)
        return RecurrentSampler(self, rows, frames, law, generator)


class NADEFrames(NamedTuple):
    """The frames of a NADE at a temperature."""

    nade: NADE
    temperature: float
    generator: Generator

    def draw(
        self, b_v_ND: Tensor, b_h_NH: Tensor, given: Given | None
    ) -> tuple[Tensor, Tensor | None]:
        return self.nade.sample(b_v_ND, b_h_NH, self.temperature, self.generator, given)

    def log_prob(self, x_ND: Tensor, b_v_ND: Tensor, b_h_NH: Tensor) -> Tensor:
        return self.nade.log_prob(x_ND, b_v_ND, b_h_NH, self.temperature)
