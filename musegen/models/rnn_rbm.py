"""RNN-RBM: an RBM for every frame of a sequence, with biases from a recurrent network.

After Boulanger-Lewandowski, Bengio & Vincent (ICML 2012) and the tutorial's `rnnrbm.py`:

    b_v(t) = b_v + u(t−1) W_uv          b_h(t) = b_h + u(t−1) W_uh
    u(t)   = tanh(b_u + v(t) W_vu + u(t−1) W_uu), or an LSTM or GRU

    p(v(1) … v(T)) = Π_t p(v(t) | v(1) … v(t−1)),   each factor a conditional RBM

The factor at t has the weights W and the biases b_v(t), b_h(t). u(t) depends only on the data, so
one pass of the recurrent network gives the biases of all conditional RBMs, and one call runs the
Gibbs chains of all frames of a batch. The loss is mean_t F_t(data) − F_t(chain end), the chain end
held constant (`musegen.energy.free_energy`); its gradient in the biases is propagated through time.

More than the paper's, as settings:

- causal attention to the earlier frames of the piece, r(t) of `musegen.models.layers.attention`,
  also enters the biases: b_v(t) = b_v + u(t−1) W_uv + r(t) W_rv, and b_h(t) alike;
- the clock, t modulo 2, 4, 8 and 16, and the age of each note are inputs of u and enter the biases;
- frozen histories: in training, parts of the frames that u and the attention read are frozen, and
  the targets are the true frames (`musegen.models.layers.frozen_history`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torchmetrics import Metric

from musegen.codecs.roll_codec import RollCodec
from musegen.constraints import (
    DropoutRate,
    NonNegativeFloat,
    NonNegativeInt,
    Odds,
    PositiveFraction,
    PositiveInt,
    PositiveTemperature,
    Probability,
    SampleCount,
    SampleLength,
    Seed,
    check_arguments,
)
from musegen.energy.affine import affine
from musegen.energy.conditional import (
    ConditionalRBMs,
    converged_estimate,
    estimate_log_prob,
    pooled_metrics,
    raise_log_prob,
)
from musegen.energy.free_energy import ContrastiveLoss
from musegen.energy.row_chains import RowChains
from musegen.errors import UserError
from musegen.metrics.means import RowMeans
from musegen.models.layers.note_age import AGE_BUCKETS
from musegen.models.layers.particle_gibbs import Effort
from musegen.models.layers.rbm_frames import RBMFrames
from musegen.models.layers.recurrence import Cell
from musegen.models.recurrent_rolls import (
    Conditions,
    HistorySettings,
    RecurrentRolls,
    RecurrentSampler,
)
from musegen.models.roll_model import Generation, Repeats
from musegen.runtime.random_streams import Stream, torch_stream
from musegen.specs import RollBatch, Rolls

W_STD, OTHER_STD = 0.01, 0.0001
"""Standard deviations of the tutorial's initial weights: of W, and of the other matrices."""
VAL_CHAINS, VAL_AIS_STEPS = 20, 100
"""AIS in validation: fast, and biased upward by about the same amount in every epoch."""
REVERSE_CHAINS = 10
"""Reverse chains per frame in `assess`."""


class RNNRBM(RecurrentRolls):
    """RBMs with `hidden` units, conditioned on a recurrent network with `recurrent` units.

    - cell: `tanh` (the paper's), `lstm` or `gru`.
    - k: Gibbs steps per update, from the data (CD-k).
    - dropout: of u where it enters the biases.
    - learn_initial_state: learn u(0), which is 0 otherwise.
    - attention_heads: heads of causal attention to the piece's earlier frames, at most
      `attention_span` frames back; 0, as in the paper, has no attention.
    - attention_dropout: of r where it enters the biases.
    - note_age: use the age of each note, as an input of u and in b_v.
    - clock: use t modulo 2, 4, 8 and 16, as an input of u and in the biases.
    - metre: use how often notes started whole periods earlier, of 2 to 24 frames, in the same way.
    - longest_match: use what followed the longest match of the last frames earlier in the piece.
    - frozen_histories: the probability that a freeze of the history starts at each place where one
      may start; in training only. It keeps generated pieces from getting stuck on one chord.
    - flipped_notes: the fraction of the notes of the history that is flipped; in training only.
    - rbm_lr_factor: the learning rate of W, b_v and b_h as a multiple of the optimiser's.
    - val_fraction: fraction of the validation frames, always the same ones, used by AIS.

    Logged metrics besides the loss, in nats per frame: `monitor`, the tutorial's,
    Σ v log p + (1−v) log(1−p) with p the mean field one Gibbs step after the chain end, computed
    from logits and so finite; in validation also `log_likelihood`, by AIS with few steps and
    therefore biased upward (`assess` has the converged estimate), and `accuracy`.

    Raises `UserError` for a setting outside its range.
    """

    name: ClassVar[str] = "rnn_rbm"
    fits_16_bits = False
    compiles = "conditions"  # torch.compile cannot read the Gibbs chains
    monitor = ("val/log_likelihood", "max")
    scores = ("monitor", "log_likelihood", "accuracy")
    train_scores = ("monitor",)
    infill_effort = Effort(particles=8, near=4, far=4)

    @check_arguments
    def __init__(
        self,
        spec: Rolls,
        codec: RollCodec | None = None,
        hidden: PositiveInt = 150,
        recurrent: PositiveInt = 100,
        cell: Cell = "tanh",
        k: PositiveInt = 15,
        dropout: DropoutRate = 0.0,
        learn_initial_state: bool = False,
        attention_heads: NonNegativeInt = 0,
        attention_span: PositiveInt = 512,
        attention_dropout: DropoutRate = 0.0,
        note_age: bool = False,
        clock: bool = False,
        metre: bool = False,
        longest_match: bool = False,
        frozen_histories: Probability = 0.0,
        flipped_notes: Probability = 0.0,
        rbm_lr_factor: NonNegativeFloat = 1.0,
        val_fraction: PositiveFraction = 0.1,
    ) -> None:
        history = HistorySettings(
            recurrent, cell, learn_initial_state, dropout, attention_heads, attention_span,
            attention_dropout, note_age, clock, metre, longest_match,
            frozen_histories, flipped_notes,
        )  # fmt: skip
        super().__init__(spec, codec, history, OTHER_STD)
        self.save_settings()
        self.k, self.rbm_lr_factor, self.val_fraction = k, rbm_lr_factor, val_fraction
        visible = self.spec.pitches
        self.W_DH = nn.Parameter(torch.randn(visible, hidden) * W_STD)
        self.b_v = nn.Parameter(torch.zeros(visible))
        self.b_h = nn.Parameter(torch.zeros(hidden))
        self.W_uv, self.W_uh = self._matrices(recurrent, hidden)
        if self.attention:
            self.W_rv, self.W_rh = self._matrices(self.attention.out_features, hidden)
        if self.metre.out_features:
            self.W_cv, self.W_ch = self._matrices(self.metre.out_features, hidden)
        if self.match:
            self.W_mv, self.W_mh = self._matrices(self.match.out_features, hidden)
        if note_age:
            self.b_age_AD = nn.Parameter(torch.zeros(1 + len(AGE_BUCKETS), visible))
        self._chains = RowChains()

    def _matrices(self, inputs: int, hidden: int) -> tuple[nn.Parameter, nn.Parameter]:
        """The matrices from one condition to b_v(t) and b_h(t)."""
        return (
            nn.Parameter(torch.randn(inputs, self.spec.pitches) * OTHER_STD),
            nn.Parameter(torch.randn(inputs, hidden) * OTHER_STD),
        )

    # --- Training ---------------------------------------------------------------------------

    def to_device(self, batch: RollBatch) -> RollBatch:
        """The batch on the device of the weights, x in their dtype."""
        return RollBatch(batch.x_BTD.to(self.W_DH), batch.mask_BT.to(self.W_DH.device))

    def frames_and_biases(
        self, batch: RollBatch, history_BTD: Tensor | None = None, padding: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The N frames of a batch and their biases, x_ND, b_v_ND and b_h_NH; with or without those
        that are padding.

        `history_BTD` are the frames to condition on, if they are not the true ones.
        """
        x_BTD, mask_BT = batch
        known = self.conditions(x_BTD if history_BTD is None else history_BTD)
        every = padding or bool(mask_BT.all())

        def rows(x_BTZ: Tensor) -> Tensor:
            return x_BTZ.flatten(0, 1) if every else x_BTZ[mask_BT]

        return rows(x_BTD), *self.biases(known.map(rows))

    def biases(self, conditions: Conditions) -> tuple[Tensor, Tensor]:
        """b_v(t) and b_h(t), one conditional RBM per row.

        In the dtype of the weights even under autocast, since chains and energies need its
        precision.
        """
        u_NR, r_NZ, metre_NC, age_ND, match_NZ = conditions
        u_NR = self.dropout(u_NR)
        b_v_ND = torch.addmm(self.b_v, u_NR, self.W_uv)
        b_h_NH = torch.addmm(self.b_h, u_NR, self.W_uh)
        if r_NZ is not None:
            r_NZ = self.attention_dropout(r_NZ)
            b_v_ND, b_h_NH = b_v_ND.addmm(r_NZ, self.W_rv), b_h_NH.addmm(r_NZ, self.W_rh)
        if metre_NC is not None:
            b_v_ND, b_h_NH = b_v_ND.addmm(metre_NC, self.W_cv), b_h_NH.addmm(metre_NC, self.W_ch)
        if match_NZ is not None:
            b_v_ND, b_h_NH = b_v_ND.addmm(match_NZ, self.W_mv), b_h_NH.addmm(match_NZ, self.W_mh)
        if age_ND is not None:
            b_v_ND = b_v_ND + self.age_bias(self.b_age_AD, age_ND)
        return b_v_ND.type_as(self.b_v), b_h_NH.type_as(self.b_h)

    def losses(self, batch: RollBatch) -> dict[str, Tensor]:
        # Leaving out the padding would make the CPU wait for a GPU, and each batch another size.
        padding = batch.x_BTD.is_cuda
        x_ND, b_v_ND, b_h_NH = self.frames_and_biases(batch, self.history(batch), padding)
        ends = self._chains.run(self.k, x_ND, self.W_DH, b_v_ND, b_h_NH)
        v_ND, a_NH = ends.v_ND, ends.a_NH
        monitor_N = self.monitor_log_prob(ends.h_NH, x_ND, b_v_ND)
        count: int | Tensor = len(x_ND)
        if padding:
            kept_N1, count = batch.mask_BT.flatten()[:, None], batch.mask_BT.sum()
            # Chains that end where they start add nothing to the loss.
            v_ND = torch.where(kept_N1, v_ND, x_ND)
            a_NH = torch.where(kept_N1, a_NH, ends.start_a_NH)
            monitor_N = monitor_N * kept_N1[:, 0]
        self.accumulate(count, monitor=monitor_N.sum() / count)
        states = x_ND, ends.start_a_NH, v_ND, a_NH
        mean = ContrastiveLoss.apply(self.W_DH, b_v_ND, b_h_NH, *states)
        return {"contrastive": mean * (len(x_ND) / count) if padding else mean}

    @torch.no_grad()
    def monitor_log_prob(self, h_NH: Tensor, x_ND: Tensor, b_v_ND: Tensor) -> Tensor:
        """The tutorial's monitor of each frame in nats: log p(x) under the mean field p one Gibbs
        step after the chain end, whose hidden units are h."""
        logit_ND = affine(h_NH, self.W_DH.t(), b_v_ND)
        cross_entropy_ND = F.binary_cross_entropy_with_logits(logit_ND, x_ND, reduction="none")
        return -cross_entropy_ND.sum(-1)

    def learning_rate_factors(self) -> dict[nn.Parameter, float]:
        return dict.fromkeys((self.W_DH, self.b_v, self.b_h), self.rbm_lr_factor)

    # --- Evaluation -------------------------------------------------------------------------

    def new_metric(self) -> Metric:
        return RowMeans(self.scores)

    def score(self, batch: RollBatch, metric: Metric, stage: str) -> None:
        generator = torch_stream(Stream.VALIDATION, 0, device=self.device)
        x_ND, b_v_ND, b_h_NH = self.frames_and_biases(batch)
        ends = self._chains.run(self.k, x_ND, self.W_DH, b_v_ND, b_h_NH, generator)
        metric.update(monitor=self.monitor_log_prob(ends.h_NH, x_ND, b_v_ND))
        if stage == "val":
            u_N = torch.rand(len(x_ND), generator=generator, device=self.device)
            every = ConditionalRBMs(self.W_DH, x_ND, b_v_ND, b_h_NH)
            subset = every.select(u_N < self.val_fraction)
            if len(subset):
                quick = estimate_log_prob(subset, VAL_CHAINS, VAL_AIS_STEPS, generator)
                metric.update(log_likelihood=quick.log_prob_N, accuracy=quick.accuracy_N)

    @torch.inference_mode()
    @check_arguments
    def assess(
        self,
        data: Any,
        split: Literal["test", "val"] = "test",
        frames: NonNegativeInt = 2000,
        chains: PositiveInt = 100,
        ais_steps: PositiveInt | None = None,
        tolerance: NonNegativeFloat = 0.02,
        reverse_frames: NonNegativeInt = 200,
        seed: Seed = 0,
    ) -> dict[str, float]:
        """Log-likelihood (nats per frame) and accuracy (fraction) of a split, all frames pooled.

        The protocol of Boulanger-Lewandowski et al. (2012), by annealed importance sampling:

        - frames: how many are chosen at random, each with its true history; 0 takes all.
        - chains, ais_steps: of forward AIS for each frame. With null, the number of steps is
          raised until the mean changes by less than `tolerance`. A fixed number is faster; the
          metric is then called `log_likelihood_upper_estimate`, since few steps bias it upward.
        - tolerance: that change, in nats.
        - reverse_frames: how many of the frames are also used for reverse AIS; 0 leaves it out.

        `…_error` is the standard error of the mean: of choosing frames (0 if all are used) and,
        for the log-likelihood, of AIS. `log_likelihood_raise` is the conservative estimate (RAISE,
        Burda et al. 2015), a bound on average for the annealed approximation, not for the model:
        the forward estimate minus the mean gap between the directions on the same frames.
        `reverse_gap_error` is the standard error of that gap.
        """
        if frames == 1 or chains == 1 or reverse_frames == 1:
            raise UserError(
                f"frames={frames}, chains={chains}, reverse_frames={reverse_frames}: should not "
                "be 1, since one value alone has no standard error"
            )
        generator = torch_stream(Stream.ASSESSMENT, seed, device=self.device)
        loader = data.test_dataloader() if split == "test" else data.val_dataloader()
        every = self.conditionals(loader)
        count = min(frames or len(every), len(every))
        order_N = torch.randperm(len(every), generator=generator, device=self.device)
        subset = every.select(order_N[:count])
        name, last_change = "log_likelihood_upper_estimate", {}
        if ais_steps is None:
            converged = converged_estimate(subset, chains, tolerance, generator)
            estimate, ais_steps = converged.estimate, converged.ais_steps
            name, last_change = "log_likelihood", {"last_change": converged.last_change}
        else:
            estimate = estimate_log_prob(subset, chains, ais_steps, generator)
        metrics = {name: float(estimate.log_prob_N.mean())}
        metrics |= pooled_metrics(estimate, len(every))
        metrics |= {"frames": count, "ais_steps": ais_steps, **last_change}
        if reverse_frames:
            first = slice(0, reverse_frames)
            raise_N = raise_log_prob(subset.select(first), REVERSE_CHAINS, ais_steps, generator)
            gap_N = estimate.log_prob_N[first] - raise_N
            metrics["log_likelihood_raise"] = metrics[name] - float(gap_N.mean())
            metrics["reverse_gap_error"] = float(gap_N.std()) / math.sqrt(len(gap_N))
        return metrics

    def conditionals(self, batches: Iterable[RollBatch]) -> ConditionalRBMs:
        """Every frame of the batches that is not padding, with its conditional RBM."""
        parts = [self.frames_and_biases(self.to_device(batch)) for batch in batches]
        return ConditionalRBMs(self.W_DH, *(torch.cat(p) for p in zip(*parts, strict=True)))

    def filters(self) -> np.ndarray:
        """The weights of each hidden unit, (H, D)."""
        return self.W_DH.detach().t().cpu().numpy()

    # --- Generation -------------------------------------------------------------------------

    @torch.inference_mode()
    @check_arguments
    def generate(
        self,
        n: SampleCount = 4,
        length: SampleLength = 200,
        temperature: PositiveTemperature = 1.0,
        repeat_odds: Odds | None = None,
        particles: PositiveInt = 1,
        max_hold: PositiveInt | None = None,
        critic: bool = True,
        repeats: Repeats | None = None,
        prime: Path | None = None,
        prime_seconds: float | None = None,
        include_prime: bool = False,
        seed: Seed = 0,
        steps: SampleLength = 25,
        ais_steps: NonNegativeInt = 0,
    ) -> list[np.ndarray]:
        """n generated pieces of `length` frames, as `NOTES` arrays.

        - temperature: divides all energies.
        - repeat_odds: where the last 4 to 31 frames came before in the piece, the odds of the
          frame that followed then are multiplied by it, by an estimate of its probability (AIS).
          For models with `longest_match`. null is 1.
        - steps: of the Gibbs chain that starts at v = 0 for each frame and ends at its sample.
        - ais_steps: if above 0 (300, say), frames are sampled by annealing instead. This is slower
          and more accurate: Gibbs chains miss modes of RBMs with probabilities close to 0 or 1.

        The other settings, and the errors, are those of `RollModel.generate`. Training mode and
        global random streams do not change.
        """
        return self.generate_by(
            lambda rows, frames, rng: self.frame_sampler(
                rows, frames, temperature, rng, steps, ais_steps
            ),
            Generation(
                n,
                length,
                particles,
                max_hold,
                repeats,
                include_prime,
                seed,
                repeat_odds or 1.0,
                critic,
            ),
            prime,
            prime_seconds,
        )

    def frame_sampler(
        self,
        rows: int,
        frames: int,
        temperature: float,
        generator: Generator,
        steps: int = 25,
        ais_steps: int = 0,
    ) -> RecurrentSampler:
        law = RBMFrames(self.W_DH, temperature, steps, ais_steps, generator)
        return RecurrentSampler(self, rows, frames, law, generator)
