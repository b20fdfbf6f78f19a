"""RNN-RBM: at every step of a sequence an RBM, its biases from a recurrent net.

After Boulanger-Lewandowski, Bengio & Vincent (ICML 2012) and the tutorial's `rnnrbm.py`:

    b_v(t) = b_v + u(t−1) W_uv          b_h(t) = b_h + u(t−1) W_uh
    u(t)   = tanh(b_u + v(t) W_vu + u(t−1) W_uu), or an LSTM or GRU

    p(v(1) … v(T)) = Π_t p(v(t) | u(t−1)),   each factor an RBM with W, b_v(t), b_h(t)

u(t) depends on the data alone, so one pass of the recurrent net gives every machine, and one
Gibbs chain runs through all frames of all sequences of a batch together. The loss is
mean_t F_t(data) − F_t(chain end), the chain end held constant (`musegen.energy.free_energy`); what it moves
in the biases goes back through time.

With `heads` above 0 the biases also hear what followed when the piece last stood as it stands now,
r(t) of `musegen.models.layers.attention`:

    b_v(t) = b_v + u(t−1) W_uv + r(t) W_rv      b_h(t) = b_h + u(t−1) W_uh + r(t) W_rh
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from musegen.codecs.midi import read_prime
from musegen.codecs.roll_codec import RollCodec
from musegen.energy.affine import affine
from musegen.energy.conditional import (
    ConditionalRBMs,
    converged_estimate,
    estimate_log_prob,
    raise_log_prob,
    sample_frames,
)
from musegen.energy.free_energy import ContrastiveLoss
from musegen.energy.gibbs import GibbsChains
from musegen.errors import UserError
from musegen.metrics.means import RowMeans
from musegen.models.base import Model
from musegen.models.layers.attention import CausalAttention
from musegen.models.layers.dropout import Dropout
from musegen.models.layers.recurrence import Cell, Recurrence
from musegen.runtime.progress import track
from musegen.specs import RollBatch, Rolls

W_STD, OTHER_STD = 0.01, 0.0001
"""Standard deviations of the tutorial's initial weights: of W, and of the other matrices."""
ATTENTION_HEAD_WIDTH = 32
"""Numbers in each query and key of the heads that look back."""
VAL_CHAINS, VAL_AIS_STEPS = 20, 100
"""AIS in validation: quick, and as flattering in one epoch as in the next."""
REVERSE_CHAINS = 10


class RNNRBM(Model):
    """RBMs with `hidden` units conditioned on `recurrent` units.

    - cell: `tanh` (the paper's), `lstm` or `gru`.
    - k: Gibbs steps an update, from the data (CD-k).
    - dropout: of u where it enters the biases.
    - learn_initial_state: learn u(0), which is 0 otherwise.
    - heads: pointers into the piece's own past, `span` frames back at most; the paper has none.
    - rbm_lr_factor: the learning rate of W, b_v and b_h as a multiple of the optimiser's.
    - val_fraction: the share of the validation frames, always the same, that AIS measures.

    Logged besides the loss: `monitor`, the tutorial's: Σ v log p + (1−v) log(1−p) with p the mean
    field one Gibbs step after the chain's end, in nats per frame, from logits and so finite; and
    in validation `log_likelihood`, by a quick AIS that flatters (`assess` has the honest metric),
    and `accuracy`.
    """

    name: ClassVar[str] = "rnn_rbm"
    reads = (Rolls,)
    codec_type = RollCodec
    fits_16_bits = False
    monitor = ("val/log_likelihood", "max")
    spec: Rolls

    def __init__(
        self,
        spec: Rolls,
        codec: RollCodec | None = None,
        hidden: int = 150,
        recurrent: int = 100,
        cell: Cell = "tanh",
        k: int = 15,
        dropout: float = 0.0,
        learn_initial_state: bool = False,
        attention_heads: int = 0,
        attention_span: int = 512,
        rbm_lr_factor: float = 1.0,
        val_fraction: float = 0.1,
    ) -> None:
        super().__init__(spec, codec)
        self.save_settings()
        if min(hidden, recurrent, k) < 1:
            raise UserError(
                f"model: hidden={hidden}, recurrent={recurrent} and k={k} must be at least 1"
            )
        if attention_heads < 0 or attention_span < 1:
            raise UserError(
                f"model: attention_heads={attention_heads} must not be negative, "
                f"attention_span={attention_span} at least 1"
            )
        if not (0 <= dropout < 1 and 0 < val_fraction <= 1 and rbm_lr_factor >= 0):
            raise UserError(
                f"model: dropout={dropout} must lie in [0, 1), val_fraction={val_fraction} in (0, 1] "
                f"and rbm_lr_factor={rbm_lr_factor} not be negative"
            )
        self.k, self.rbm_lr_factor, self.val_fraction = k, rbm_lr_factor, val_fraction
        visible = self.spec.pitches
        self.W_DH = nn.Parameter(torch.randn(visible, hidden) * W_STD)
        self.b_v = nn.Parameter(torch.zeros(visible))
        self.b_h = nn.Parameter(torch.zeros(hidden))
        self.W_uv = nn.Parameter(torch.randn(recurrent, visible) * OTHER_STD)
        self.W_uh = nn.Parameter(torch.randn(recurrent, hidden) * OTHER_STD)
        self.recurrence = Recurrence(cell, visible, recurrent, OTHER_STD, learn_initial_state)
        self.dropout = Dropout(dropout)
        self._gibbs: GibbsChains | None = None
        self.attention: CausalAttention | None = None
        if attention_heads:
            self.attention = CausalAttention(
                recurrent, visible, attention_heads, ATTENTION_HEAD_WIDTH, attention_span
            )
            read = self.attention.out_features
            self.W_rv = nn.Parameter(torch.randn(read, visible) * OTHER_STD)
            self.W_rh = nn.Parameter(torch.randn(read, hidden) * OTHER_STD)

    # --- Teaching ---------------------------------------------------------------------------

    def to_device(self, batch: RollBatch) -> RollBatch:
        """The batch where the weights are, and of their type."""
        return RollBatch(batch.x_BTD.to(self.W_DH), batch.mask_BT.to(self.W_DH.device))

    def frames_and_biases(self, batch: RollBatch) -> tuple[Tensor, Tensor, Tensor]:
        """The N real frames of a batch and the biases of their machines: x_ND, b_v_ND, b_h_NH."""
        x_BTD, mask_BT = batch
        u_BTR = self.recurrence.states_before(x_BTD)
        whole = bool(mask_BT.all())

        def real(x_BTZ: Tensor) -> Tensor:
            return x_BTZ.flatten(0, 1) if whole else x_BTZ[mask_BT]

        r_NZ = real(self.attention.all_steps(u_BTR, x_BTD)) if self.attention else None
        return real(x_BTD), *self.biases(real(u_BTR), r_NZ)

    def biases(self, u_NR: Tensor, r_NZ: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """b_v(t) and b_h(t) from u(t−1) and r(t), one machine a row; not in fewer bits, as autocast
        would have them: chains and energies keep to the weights' type."""
        u_NR = self.dropout(u_NR)
        b_v_ND = torch.addmm(self.b_v, u_NR, self.W_uv)
        b_h_NH = torch.addmm(self.b_h, u_NR, self.W_uh)
        if r_NZ is not None:
            b_v_ND, b_h_NH = b_v_ND.addmm(r_NZ, self.W_rv), b_h_NH.addmm(r_NZ, self.W_rh)
        return b_v_ND.type_as(self.b_v), b_h_NH.type_as(self.b_h)

    def losses(self, batch: RollBatch) -> dict[str, Tensor]:
        x_ND, b_v_ND, b_h_NH = self.frames_and_biases(batch)
        gibbs, a_NH = self.chains(x_ND, b_v_ND, b_h_NH)
        self.accumulate(len(x_ND), monitor=self.monitor_log_prob(gibbs, x_ND, b_v_ND).mean())
        known = x_ND, a_NH, gibbs.v_BD, gibbs.a_BH
        return {"contrastive": ContrastiveLoss.apply(self.W_DH, b_v_ND, b_h_NH, *known)}

    @torch.no_grad()
    def chains(
        self,
        start_ND: Tensor,
        b_v_ND: Tensor,
        b_h_NH: Tensor,
        generator: torch.Generator | None = None,
    ) -> tuple[GibbsChains, Tensor]:
        """k Gibbs steps of every frame's machine, together, in buffers that the next call takes
        over; and b_h + v W of the start."""
        if self._gibbs is None or not self._gibbs.fits(len(start_ND), start_ND.device):
            self._gibbs = GibbsChains(len(start_ND), self.W_DH)
        a_NH = self._gibbs.set_visible(start_ND, self.W_DH, b_h_NH, generator)
        self._gibbs.run(self.k, self.W_DH, b_v_ND, b_h_NH, generator)
        return self._gibbs, a_NH

    @torch.no_grad()
    def monitor_log_prob(self, gibbs: GibbsChains, x_ND: Tensor, b_v_ND: Tensor) -> Tensor:
        """The tutorial's monitor of each frame, nats: log p(x) by the mean field after the end."""
        logit_ND = affine(gibbs.h_BH, self.W_DH.t(), b_v_ND)
        cross = F.binary_cross_entropy_with_logits(logit_ND, x_ND, reduction="none")
        return -cross.sum(-1)

    def learning_rate_factors(self) -> dict[nn.Parameter, float]:
        return dict.fromkeys((self.W_DH, self.b_v, self.b_h), self.rbm_lr_factor)

    def num_predictions(self, batch: RollBatch) -> int:
        return int(batch.mask_BT.sum())

    # --- Measuring --------------------------------------------------------------------------

    def new_metric(self) -> Metric:
        return RowMeans(["monitor", "log_likelihood", "accuracy"])

    def score(self, batch: RollBatch, metric: Metric, stage: str) -> None:
        generator = torch.Generator(self.device).manual_seed(0)
        x_ND, b_v_ND, b_h_NH = self.frames_and_biases(batch)
        gibbs, _ = self.chains(x_ND, b_v_ND, b_h_NH, generator)
        metric.update(monitor=self.monitor_log_prob(gibbs, x_ND, b_v_ND))
        if stage == "val":
            drawn_N = torch.rand(len(x_ND), generator=generator, device=self.device)
            some = ConditionalRBMs(self.W_DH, x_ND, b_v_ND, b_h_NH).select(
                drawn_N < self.val_fraction
            )
            if len(some):
                quick = estimate_log_prob(some, VAL_CHAINS, VAL_AIS_STEPS, generator)
                metric.update(log_likelihood=quick.log_prob_N, accuracy=quick.accuracy_N)

    @torch.inference_mode()
    def assess(
        self,
        data: Any,
        split: Literal["test", "val"] = "test",
        frames: int = 2000,
        chains: int = 100,
        ais_steps: int | None = None,
        tolerance: float = 0.02,
        reverse_frames: int = 200,
        seed: int = 0,
    ) -> dict[str, float]:
        """The protocol's LL (nats per frame) and ACC (percent) of a split, all its frames pooled.

        - frames: drawn at random, the history before them true and whole; 0 takes all.
        - chains, ais_steps: of AIS for each frame. Null raises the ais_steps until the mean
          moves by less than `tolerance`; a number is quicker, and the metric is then called
          `log_likelihood_upper_estimate`.
        - reverse_frames: of those, drawn again for the bound from below; 0 leaves it out.

        `…_error` is the standard error of the mean: of the frames drawn, less as they become all
        there are, and for LL of their AIS. `log_likelihood_raise` is the forward
        metric less the mean gap between the directions on the same frames, whose error is
        `reverse_gap_error`.
        """
        if frames < 0 or frames == 1 or chains < 2 or reverse_frames == 1:
            raise UserError(
                f"assess: frames={frames}, chains={chains} and reverse_frames={reverse_frames} "
                "must be at least 2 (frames and reverse_frames may be 0): one alone has no error"
            )
        generator = torch.Generator(self.device).manual_seed(seed)
        loader = data.test_dataloader() if split == "test" else data.val_dataloader()
        every = self.conditionals(loader)
        count = min(frames or len(every), len(every))
        order_N = torch.randperm(len(every), generator=generator, device=self.device)
        some = every.select(order_N[:count])
        if ais_steps is None:
            found, ais_steps, moved = converged_estimate(some, chains, tolerance, generator)
            name, metrics = "log_likelihood", {"last_change": moved}
        else:
            found = estimate_log_prob(some, chains, ais_steps, generator)
            name, metrics = "log_likelihood_upper_estimate", {}
        mean, drawn = float(found.log_prob_N.mean()), (1 - count / len(every)) / count
        annealed = float(found.error_N.square().sum()) / count**2
        metrics = {
            name: mean,
            "log_likelihood_error": math.sqrt(float(found.log_prob_N.var()) * drawn + annealed),
            "accuracy": 100 * float(found.accuracy_N.mean()),
            "accuracy_error": 100 * float(found.accuracy_N.std()) * math.sqrt(drawn),
            "frames": count,
            "ais_steps": ais_steps,
            **metrics,
        }
        if reverse_frames:
            rows = slice(0, reverse_frames)
            gap_N = found.log_prob_N[rows] - raise_log_prob(
                some.select(rows), REVERSE_CHAINS, ais_steps, generator
            )
            metrics["log_likelihood_raise"] = mean - float(gap_N.mean())
            metrics["reverse_gap_error"] = float(gap_N.std()) / math.sqrt(len(gap_N))
        return metrics

    def conditionals(self, batches: Iterable[RollBatch]) -> ConditionalRBMs:
        """Every real frame of some batches, and its machine."""
        parts = [self.frames_and_biases(self.to_device(batch)) for batch in batches]
        return ConditionalRBMs(self.W_DH, *(torch.cat(p) for p in zip(*parts, strict=True)))

    def filters(self) -> np.ndarray:
        """The weights of each hidden unit, (H, D)."""
        return self.W_DH.detach().t().cpu().numpy()

    # --- Composing --------------------------------------------------------------------------

    @torch.inference_mode()
    def generate(
        self,
        n: int = 4,
        length: int = 200,
        steps: int = 25,
        ais_steps: int = 0,
        temperature: float = 1.0,
        repeats: Literal["sustain", "retrigger"] | None = None,
        prime: Path | None = None,
        prime_seconds: float | None = None,
        include_prime: bool = False,
        seed: int = 0,
    ) -> list[np.ndarray]:
        """Compose n pieces of `length` frames, as `NOTES` arrays.

        At each frame a chain of `steps` Gibbs steps starts at v = 0; its end is the frame. Such
        chains miss much of what a machine that is sure of itself knows: with `ais_steps` above
        0 (300, say) frames are drawn by annealing instead, slower and truer. Energies are divided
        by `temperature`. `repeats` says whether a pitch in successive frames is one
        note `sustain`, or `retrigger` in each; null leaves it to the codec. `prime` is a MIDI file that
        is read first, or its first `prime_seconds`; with `include_prime` the pieces begin with
        it. Training mode and the global random streams are left as they were.

        Raises `UserError` for settings out of range and for a prime that has no notes.
        """
        if min(n, length, steps) < 1 or ais_steps < 0 or not temperature > 0:
            raise UserError(
                f"n={n}, length={length} and steps={steps} must be at least 1, "
                f"ais_steps={ais_steps} not negative, temperature={temperature} above 0"
            )
        codec = self.codec if repeats is None else replace(self.codec, repeats=repeats)
        generator = torch.Generator(self.device).manual_seed(seed)
        primed_TD = np.zeros((0, self.spec.pitches), np.float32)
        if prime is not None:
            primed_TD = codec.encode(read_prime(prime, prime_seconds)).astype(np.float32)
            if not len(primed_TD):
                raise UserError(f"prime={prime}: no notes within the model's pitch range")
        heard, training = len(primed_TD), self.training
        self.eval()
        try:
            x_NTD = self.W_DH.new_zeros(n, heard + length, self.spec.pitches)
            x_NTD[:, :heard] = torch.from_numpy(primed_TD)
            state = self.recurrence.start(n)
            u_NTR = state[0].new_zeros(*x_NTD.shape[:2], state[0].shape[1])
            if heard:
                u_BTR, state = self.recurrence(x_NTD[:, :heard], state)
                u_NTR[:, :heard] = u_BTR[:, :-1]
            W_DH = self.W_DH / temperature
            gibbs = GibbsChains(n, W_DH)
            silence_ND = torch.zeros_like(gibbs.v_BD)
            for t in track(range(heard, heard + length), "composing", "frames"):
                u_NTR[:, t] = state[0]
                r_NZ = self.attention.step(t, u_NTR, x_NTD) if self.attention else None
                b_v_ND, b_h_NH = (b / temperature for b in self.biases(state[0], r_NZ))
                if ais_steps:
                    machines = ConditionalRBMs(W_DH, silence_ND, b_v_ND, b_h_NH)
                    x_NTD[:, t] = sample_frames(machines, ais_steps, generator)
                else:
                    gibbs.set_visible(silence_ND, W_DH, b_h_NH, generator)
                    x_NTD[:, t] = gibbs.run(steps, W_DH, b_v_ND, b_h_NH, generator)
                _, state = self.recurrence(x_NTD[:, t, None], state)
        finally:
            self.train(training)
        first = 0 if include_prime else heard
        return [codec.decode(piece_TD) for piece_TD in x_NTD[:, first:].cpu().numpy()]
