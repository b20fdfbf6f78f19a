"""Restricted Boltzmann machine (RBM) on binary frames, trained by contrastive divergence.

After the deep learning tutorial (`rbm.py`) and Hinton's practical guide (2010). With the free
energy F of `musegen.energy.free_energy`, the loss

    L = mean F(data) − mean F(chain end),     the chain end held constant,

has the gradient ⟨∂F/∂θ⟩_data − ⟨∂F/∂θ⟩_chain. It would be that of the negative log-likelihood if
the chains had reached the RBM's own distribution. CD-k starts the k Gibbs steps at the data; PCD-k
(persistent CD, Tieleman 2008) continues the chains of the previous update.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torchmetrics import Metric

from musegen.constraints import (
    NonNegativeFloat,
    NonNegativeInt,
    OpenFraction,
    PositiveInt,
    SampleCount,
    SampleLength,
    Seed,
    check_arguments,
)
from musegen.energy.affine import affine
from musegen.energy.ais import (
    SALAKHUTDINOV_MURRAY,
    AnnealedRBM,
    Schedule,
    forward_ais,
    reverse_ais,
)
from musegen.energy.free_energy import ContrastiveLoss, free_energy
from musegen.energy.gibbs import GibbsChains
from musegen.errors import UserError
from musegen.metrics.means import RowMeans
from musegen.models.base import Model
from musegen.runtime.distributed import all_reduce_sum, this_rank
from musegen.runtime.random_streams import Stream, torch_stream
from musegen.runtime.steps import report_step
from musegen.specs import FrameBatch, Frames

MEAN_RATE = 0.01
"""Weight of a batch in the running mean of the hidden units, for the centred gradient."""
REFERENCE_ROWS = 1000
"""Training examples whose free energy is compared with that of the validation split."""


class RBM(Model):
    """A binary RBM; initial weights W ~ U(±4 √(6 / (D + H))).

    - chain: `pcd` or `cd`. k: Gibbs steps per update. PCD has as many chains as the first batch
      has examples; each process has its own, which are saved in the checkpoint.
    - visible_bias: initial value, `zero` or the `log_odds` of the training data's means.
    - centered: use the centred gradient (Cho et al. 2011, Montavon & Müller 2012), that of the
      same RBM written with v − μ and h − λ, where μ and λ are the units' means over the data.
      Training then does not depend on whether ink is 1 or 0, and is faster.
    - monitor_every: updates between two evaluations of the tutorial's monitor (a fifth of the
      time of PCD-1); 0 turns it off.
    - sparsity: target probability that a hidden unit is on. sparsity_cost: the weight, in the
      loss, of the cross-entropy between it and the unit's mean over the batch.

    Inputs are in [0, 1]; values between are read as probabilities, as in the tutorial. Logged
    metrics, in nats: `pseudo_likelihood` (one bit per example; in the test every bit),
    `reconstruction` (cross-entropy; in training with CD only) and in validation `free_energy_gap`,
    mean F(validation) − mean F(training), high if it overfits. Wrong settings: `UserError`.
    """

    name: ClassVar[str] = "rbm"
    reads = (Frames,)
    fits_16_bits, compiles = False, None  # torch.compile cannot read the Gibbs chains
    monitor = ("val/pseudo_likelihood", "max")
    scores = ("pseudo_likelihood", "reconstruction", "free_energy", "free_energy_gap")
    train_scores = ("pseudo_likelihood", "reconstruction", "contrastive", "sparsity")
    spec: Frames

    mean_D: Tensor
    mean_H: Tensor

    @check_arguments
    def __init__(
        self,
        spec: Frames,
        codec: None = None,
        hidden: PositiveInt = 500,
        chain: Literal["pcd", "cd"] = "pcd",
        k: PositiveInt = 15,
        visible_bias: Literal["zero", "log_odds"] = "zero",
        centered: bool = False,
        monitor_every: NonNegativeInt = 1,
        sparsity: OpenFraction | None = None,
        sparsity_cost: NonNegativeFloat = 0.01,
    ) -> None:
        super().__init__(spec, codec)
        self.save_settings()
        self.chain, self.k, self.visible_bias = chain, k, visible_bias
        self.centered, self.monitor_every = centered, monitor_every
        self.sparsity, self.sparsity_cost = sparsity, sparsity_cost
        visible = self.spec.dim
        bound = 4 * math.sqrt(6 / (visible + hidden))
        self.W_DH = nn.Parameter(torch.empty(visible, hidden).uniform_(-bound, bound))
        self.b_v = nn.Parameter(torch.zeros(visible))
        self.b_h = nn.Parameter(torch.zeros(hidden))
        # Means over the training data. mean_D is also the base of AIS; it is saved in the
        # checkpoint, so that evaluation needs no training data.
        self.register_buffer("mean_D", torch.full((visible,), 0.5))
        self.register_buffer("mean_H", torch.full((hidden,), 0.5))
        # Not a buffer: DDP would copy the chains of rank 0 to every rank.
        self._gibbs: GibbsChains | None = None
        self._resumed_SH: Tensor | None = None
        self._updates = 0
        self._reference: list[Tensor] = []

    # --- Training ---------------------------------------------------------------------------

    def free_energy(self, v_BD: Tensor) -> Tensor:
        """F(v) in nats, one per batch row."""
        return free_energy(v_BD, self.W_DH, self.b_v, self.b_h)

    def hidden_means(self, v_BD: Tensor) -> Tensor:
        """p(h=1 | v)."""
        return torch.addmm(self.b_h, v_BD, self.W_DH).sigmoid()

    def losses(self, batch: FrameBatch) -> dict[str, Tensor]:
        x_BD = batch.x_BD
        a_BH, v_CD, end_CH = self.run_chains(x_BD)
        self._update_monitor(x_BD, a_BH)
        if self.centered:
            mean_H = all_reduce_sum(a_BH.sigmoid().mean(0)) / this_rank()[1]
            self.mean_H.lerp_(mean_H, MEAN_RATE)
        states = x_BD, a_BH, v_CD, end_CH
        losses = {"contrastive": ContrastiveLoss.apply(self.W_DH, self.b_v, self.b_h, *states)}
        if self.sparsity is not None:
            q_H = self.hidden_means(x_BD).mean(0)
            target_H = torch.full_like(q_H, self.sparsity)
            cost = F.binary_cross_entropy(q_H, target_H, reduction="sum")
            losses["sparsity"] = self.sparsity_cost * cost
        return losses

    @torch.no_grad()
    def run_chains(self, x_BD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """k Gibbs steps, from the data (CD) or from the persistent chains (PCD).

        Returns c + x W of the data, the chain ends v, and c + v W.
        """
        W_DH, b_v, b_h = self.W_DH.detach(), self.b_v.detach(), self.b_h.detach()
        gibbs = self._gibbs
        if gibbs is None or (self.chain == "cd" and not gibbs.fits(len(x_BD), x_BD.device)):
            gibbs = self._gibbs = GibbsChains(len(x_BD), W_DH)
            if self._resumed_SH is not None and self._resumed_SH.shape == gibbs.h_BH.shape:
                gibbs.h_BH.copy_(self._resumed_SH)
        activation = gibbs.set_visible if self.chain == "cd" else affine
        a_BH = activation(x_BD, W_DH, b_h)
        return a_BH, gibbs.run(self.k, W_DH, b_v, b_h), gibbs.a_BH

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.centered:
            self._center_gradient()

    @torch.no_grad()
    def _center_gradient(self) -> None:
        """Turn the gradient of W, b and c into the centred gradient, in place:

        ∂W' = ∂W − μ ∂cᵀ − ∂b λᵀ     ∂b' = ∂b − ∂W' λ     ∂c' = ∂c − ∂W'ᵀ μ
        """
        weights = self.W_DH, self.b_v, self.b_h
        grad_W, grad_v, grad_h = (w.grad for w in weights if w.grad is not None)
        grad_W.addr_(self.mean_D, grad_h, alpha=-1).addr_(grad_v, self.mean_H, alpha=-1)
        grad_v.addmv_(grad_W, self.mean_H, alpha=-1)
        grad_h.addmv_(grad_W.t(), self.mean_D, alpha=-1)

    @torch.no_grad()
    def _update_monitor(self, x_BD: Tensor, a_BH: Tensor) -> None:
        """Evaluate the tutorial's monitor, every `monitor_every` updates."""
        if len(self._reference) * len(x_BD) < REFERENCE_ROWS:
            self._reference.append(x_BD)
        update, self._updates = self._updates, self._updates + 1
        if not self.monitor_every or update % self.monitor_every:
            return
        if self.chain == "pcd":
            bit = update // self.monitor_every % self.spec.dim
            pseudo_B = self.pseudo_likelihood(x_BD, bit, a_BH)
            self.accumulate(len(x_BD), pseudo_likelihood=pseudo_B.mean())
        else:
            assert self._gibbs is not None
            cross_entropy_B = _cross_entropy(self._gibbs.logit_BD, x_BD)
            self.accumulate(len(x_BD), reconstruction=cross_entropy_B.mean())

    @torch.no_grad()
    def pseudo_likelihood(self, x_BD: Tensor, bit: int, a_BH: Tensor | None = None) -> Tensor:
        """D · log p(x_bit | other bits), one per row; x is rounded first, as in the tutorial.

        The mean over bits is the log pseudo-likelihood. Flipping one bit changes every hidden
        activation by one row of W, so F(flipped) needs no second matrix product. a_BH is
        c + x W, if it is already computed.
        """
        rounded_BD = x_BD.round()
        # On a GPU the comparison would wait for all kernels launched so far.
        if a_BH is None or x_BD.is_cuda or not torch.equal(rounded_BD, x_BD):
            a_BH = affine(rounded_BD, self.W_DH, self.b_h)
        softplus_B = F.softplus(a_BH).sum(-1)
        return self.spec.dim * self._log_conditional(rounded_BD, a_BH, softplus_B, bit)

    def full_pseudo_likelihood(self, x_BD: Tensor) -> Tensor:
        """Σ_i log p(x_i | other bits) over every bit i, one per row; float64."""
        x_BD = x_BD.round()
        a_BH = torch.addmm(self.b_h, x_BD, self.W_DH)
        softplus_B = F.softplus(a_BH).sum(-1)
        total_B = torch.zeros(len(x_BD), dtype=torch.float64, device=x_BD.device)
        for bit in range(self.spec.dim):
            total_B += self._log_conditional(x_BD, a_BH, softplus_B, bit)
        return total_B

    def _log_conditional(self, x_BD: Tensor, a_BH: Tensor, softplus_B: Tensor, bit: int) -> Tensor:
        """log σ(F(x with this bit flipped) − F(x)); softplus_B is Σ_h softplus(a)."""
        change_B = 1 - 2 * x_BD[:, bit]
        flipped_B = F.softplus(torch.addcmul(a_BH, change_B[:, None], self.W_DH[bit])).sum(-1)
        return F.logsigmoid(softplus_B - flipped_B - change_B * self.b_v[bit])

    def on_fit_start(self) -> None:
        """Compute the training data's means, for AIS and for the visible biases."""
        if self.trainer.ckpt_path:
            return  # a resumed run reads them from its checkpoint
        total_D, rows = torch.zeros(self.spec.dim, dtype=torch.float64), 0
        for batch in self.train_batches():
            total_D += batch.x_BD.sum(0, dtype=torch.float64)
            rows += len(batch.x_BD)
        sums = all_reduce_sum(torch.cat([total_D, torch.tensor([float(rows)])]).to(self.device))
        # One more example with every pixel at ½, so that a pixel that is never on has finite odds.
        self.mean_D.copy_((sums[:-1] + 0.5) / (sums[-1] + 1))
        if self.visible_bias == "log_odds" and not self.initialised:
            with torch.no_grad():
                self.b_v.copy_(self.mean_D.logit())

    def training_state(self) -> dict[str, Any]:
        """The persistent chains (S, H), the number of updates, and the training examples whose
        free energy is compared with that of the validation split."""
        chains_SH = self._gibbs.h_BH if self.chain == "pcd" and self._gibbs is not None else None
        state = {"chains": chains_SH, "updates": self._updates, "reference": list(self._reference)}
        return super().training_state() | state

    def load_training_state(self, state: dict[str, Any]) -> None:
        super().load_training_state(state)
        self._updates, self._reference = state["updates"], list(state["reference"])
        self._resumed_SH, self._gibbs = state["chains"], None

    # --- Evaluation -------------------------------------------------------------------------

    def new_metric(self) -> Metric:
        return RowMeans(["pseudo_likelihood", "reconstruction", "free_energy", "train_energy"])

    def score(self, batch: FrameBatch, metric: Metric, stage: str) -> None:
        x_BD = batch.x_BD
        every_bit = stage == "test"
        pseudo = self.full_pseudo_likelihood if every_bit else self._one_bit_per_row
        metric.update(
            pseudo_likelihood=pseudo(x_BD),
            reconstruction=self.reconstruction(x_BD),
            free_energy=self.free_energy(x_BD),
        )

    def _one_bit_per_row(self, x_BD: Tensor) -> Tensor:
        """The stochastic pseudo-likelihood; each row has its own bit, the same in every epoch."""
        x_BD = x_BD.round()
        bits_B = torch.arange(len(x_BD), device=x_BD.device) * 11 % self.spec.dim
        change_B1 = 1 - 2 * x_BD.gather(1, bits_B[:, None])
        a_BH = torch.addmm(self.b_h, x_BD, self.W_DH)
        flipped_BH = a_BH + change_B1 * self.W_DH[bits_B]
        difference_B = (F.softplus(a_BH) - F.softplus(flipped_BH)).sum(-1)
        return self.spec.dim * F.logsigmoid(difference_B - change_B1[:, 0] * self.b_v[bits_B])

    def on_validation_epoch_end(self) -> None:
        if self._reference:
            self.val_metric.update(train_energy=self.free_energy(torch.cat(self._reference)))
        super().on_validation_epoch_end()

    def _report(self, metric: Metric, stage: str) -> None:
        metrics = metric.compute()
        metric.reset()
        if "train_energy" in metrics:
            metrics["free_energy_gap"] = metrics["free_energy"] - metrics.pop("train_energy")
        self.log_dict({f"{stage}/{k}": v for k, v in metrics.items()}, rank_zero_only=False)

    def with_base(self) -> AnnealedRBM:
        """The RBM for AIS; the base has the means of the training data."""
        W_DH, b_v, b_h = self.W_DH.detach(), self.b_v.detach(), self.b_h.detach()
        return AnnealedRBM(W_DH, b_v, b_h, self.mean_D.logit(), torch.zeros_like(b_h))

    @torch.inference_mode()
    @check_arguments
    def assess(
        self,
        data: Any,
        split: Literal["test", "val"] = "test",
        chains: NonNegativeInt = 100,
        reverse_rows: NonNegativeInt = 100,
        schedule: tuple[tuple[int, float], ...] = tuple(SALAKHUTDINOV_MURRAY),
        seed: Seed = 0,
    ) -> dict[str, float]:
        """The mean log-likelihood of a split in nats, by forward and reverse AIS.

        - chains: forward chains, for `log_likelihood` (biased upward); 0 leaves it out.
        - reverse_rows: examples of the split, chosen at random and binarised at random, from which
          reverse chains start, for `log_likelihood_raise`; 0 leaves it out.

        Both are −mean F over the *whole* split minus an estimate of log Z. `log_z_error` and
        `log_z_reverse_error` are its standard errors, over chains and examples. The second is a
        conservative estimate (RAISE, Burda et al. 2015; see `musegen.energy.ais`).

        Intensities are put into F unchanged. F is concave, so the result is lower than the mean
        over binary images drawn from them.
        """
        if 1 in (chains, reverse_rows):
            raise UserError(
                f"chains={chains}, reverse_rows={reverse_rows}: should be 0 or at least 2, since "
                "one chain alone has no standard error"
            )
        loader = data.test_dataloader() if split == "test" else data.val_dataloader()
        x_ND = torch.cat([batch.x_BD for batch in loader]).to(self.W_DH)
        rbm = self.with_base()
        log_f = rbm.log_f(x_ND).mean()
        generator = torch_stream(Stream.ASSESSMENT, seed, device=self.device)
        metrics: dict[str, Tensor] = {}
        if chains:
            z = forward_ais(rbm, chains, schedule, generator)
            metrics = {"log_likelihood": log_f - z.value, "log_z": z.value}
            metrics |= {"log_z_error": z.error, "effective_chains": z.effective_chains}
        if reverse_rows:
            z_N = self._reverse_log_z(rbm, x_ND, reverse_rows, schedule, generator)
            mean, error = z_N.mean(), z_N.std() / math.sqrt(len(z_N))
            metrics |= {"log_likelihood_raise": log_f - mean, "log_z_reverse": mean}
            metrics["log_z_reverse_error"] = error
        return {name: float(value) for name, value in metrics.items()}

    def _reverse_log_z(
        self, rbm: AnnealedRBM, x_ND: Tensor, rows: int, schedule: Schedule, generator: Generator
    ) -> Tensor:
        """log Z by reverse AIS from `rows` examples, chosen and binarised at random."""
        order_N = torch.randperm(len(x_ND), generator=generator, device=self.device)
        p_ND = x_ND[order_N[:rows]]
        start_ND = torch.empty_like(p_ND).uniform_(generator=generator).lt_(p_ND)
        return reverse_ais(rbm, start_ND, 1, schedule, generator)

    # --- Sampling ---------------------------------------------------------------------------

    @torch.inference_mode()
    @check_arguments
    def generate(
        self,
        n: SampleCount = 20,
        rows: SampleCount = 10,
        steps: SampleLength = 1000,
        start_ND: Tensor | None = None,
        seed: Seed = 0,
    ) -> list[np.ndarray]:
        """Arrays (n, D) of n Gibbs chains, p(v=1 | h) in [0, 1]; chains start at `start_ND` (n is
        then its length), or else at bits drawn from the training data's means. Global random
        streams do not change. Raises `UserError` for a setting outside its range.

        - rows: how many arrays. steps: Gibbs steps between two of them.
        """
        generator = torch_stream(Stream.SAMPLING, seed, device=self.device)
        if start_ND is None:
            base_ND = self.mean_D.expand(n, -1)
            start_ND = torch.empty_like(base_ND).uniform_(generator=generator).lt_(base_ND)
        gibbs = GibbsChains(len(start_ND), self.W_DH)
        gibbs.set_visible(start_ND.to(self.W_DH), self.W_DH, self.b_h, generator)
        means = []
        for _ in range(rows):
            gibbs.run(steps, self.W_DH, self.b_v, self.b_h, generator)
            means.append(gibbs.p_BD.cpu().numpy().copy())
            report_step(len(means), rows, means.copy)
        return means

    def filters(self) -> np.ndarray:
        return self.W_DH.detach().t().cpu().numpy()

    def reconstruction(self, x_BD: Tensor) -> Tensor:
        """Cross-entropy between x and `reconstruct(x)` in nats, one per row."""
        logit_BD = torch.addmm(self.b_v, self.hidden_means(x_BD), self.W_DH.t())
        return _cross_entropy(logit_BD, x_BD)

    @torch.inference_mode()
    def reconstruct(self, x_BD: Tensor) -> Tensor:
        """The mean field after one Gibbs step from x: p(v=1 | E[h | x])."""
        return torch.addmm(self.b_v, self.hidden_means(x_BD), self.W_DH.t()).sigmoid()


def _cross_entropy(logit_BD: Tensor, x_BD: Tensor) -> Tensor:
    """−Σ_d x log σ(a) + (1−x) log σ(−a), one per row; computed from logits, so always finite."""
    return F.binary_cross_entropy_with_logits(logit_BD, x_BD, reduction="none").sum(-1)
