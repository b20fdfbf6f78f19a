"""Restricted Boltzmann machine on binary frames, taught by contrastive divergence.

After the deep learning tutorial (`rbm.py`) and Hinton's practical guide (2010). With the free
energy F of `musegen.energy.free_energy`, the loss

    L = mean F(data) − mean F(chain end),     the chain end held constant,

has the gradient ⟨∂F/∂θ⟩_data − ⟨∂F/∂θ⟩_chain: that of the log-likelihood, but for the chain not
having reached the machine's own distribution. CD-k starts the k Gibbs steps at the data; PCD-k
(Tieleman 2008) goes on from where the chains of the last update stood.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from musegen.energy.affine import affine
from musegen.energy.ais import SALAKHUTDINOV_MURRAY, AnnealedRBM, forward_ais, reverse_ais
from musegen.energy.free_energy import ContrastiveLoss, free_energy
from musegen.energy.gibbs import GibbsChains
from musegen.errors import UserError
from musegen.metrics.means import RowMeans
from musegen.models.base import Model
from musegen.runtime.distributed import all_reduce_sum, this_rank
from musegen.specs import FrameBatch, Frames

MEAN_RATE = 0.01
"""How much of a batch enters the running mean of the hidden units, for the centred gradient."""

REFERENCE_ROWS = 1000
"""Training rows whose free energy is compared with that of the validation split."""


class RBM(Model):
    """A binary RBM with `hidden` units, W ~ U(±4 √(6 / (D + H))).

    - chain: `pcd` or `cd`, with k Gibbs steps an update. PCD has as many chains as the first
      batch has rows; each process has its own, saved in the checkpoint and taken up on resume.
    - visible_bias: starts at `zero` or at the `log_odds` of the training data's means.
    - centered: follow the centred gradient (Cho et al. 2011, Montavon & Müller 2012), that of the
      same machine written with v − μ and h − λ, the units' means over the data: its path does not
      depend on whether ink is 1 or 0, and it learns faster.
    - monitor_every: the tutorial's monitor is computed in every so many updates (a fifth of the
      time of PCD-1); 0 leaves it out.
    - sparsity: the share of the time a hidden unit should be on; the cross-entropy between it
      and the unit's mean over the batch, times sparsity_cost, is added to the loss.

    Rows are vectors in [0, 1]; values between are read as probabilities, as the tutorial does.
    Logged besides the loss: `pseudo_likelihood` (one bit a row; in the test every bit),
    `reconstruction` (cross-entropy, nats; with CD in training) and in validation
    `free_energy_gap`, mean F(validation) − mean F(training): it grows where the machine overfits.
    """

    name: ClassVar[str] = "rbm"
    reads = (Frames,)
    fits_16_bits = False
    monitor = ("val/pseudo_likelihood", "max")
    spec: Frames

    mean_D: Tensor
    mean_H: Tensor

    def __init__(
        self,
        spec: Frames,
        codec: None = None,
        hidden: int = 500,
        chain: Literal["pcd", "cd"] = "pcd",
        k: int = 15,
        visible_bias: Literal["zero", "log_odds"] = "zero",
        centered: bool = False,
        monitor_every: int = 1,
        sparsity: float | None = None,
        sparsity_cost: float = 0.01,
    ) -> None:
        super().__init__(spec, codec)
        self.save_settings()
        if min(hidden, k) < 1 or monitor_every < 0:
            raise UserError(
                f"model: hidden={hidden} and k={k} must be at least 1, "
                f"monitor_every={monitor_every} not negative"
            )
        if sparsity is not None and not (0 < sparsity < 1 and sparsity_cost >= 0):
            raise UserError(
                f"model: sparsity={sparsity} must lie between 0 and 1, "
                f"sparsity_cost={sparsity_cost} not be negative"
            )
        self.chain, self.k, self.visible_bias = chain, k, visible_bias
        self.centered, self.monitor_every = centered, monitor_every
        self.sparsity, self.sparsity_cost = sparsity, sparsity_cost
        visible = self.spec.dim
        bound = 4 * math.sqrt(6 / (visible + hidden))
        self.W_DH = nn.Parameter(torch.empty(visible, hidden).uniform_(-bound, bound))
        self.b_v = nn.Parameter(torch.zeros(visible))
        self.b_h = nn.Parameter(torch.zeros(hidden))
        # What AIS starts from; in the checkpoint, so that evaluation needs no training data.
        self.register_buffer("mean_D", torch.full((visible,), 0.5))
        self.register_buffer("mean_H", torch.full((hidden,), 0.5))
        # No buffer: DDP would give every rank the chains of rank 0.
        self._gibbs: GibbsChains | None = None
        self._resumed_SH: Tensor | None = None
        self._updates = 0
        self._reference: list[Tensor] = []

    # --- Teaching ---------------------------------------------------------------------------

    def free_energy(self, v_BD: Tensor) -> Tensor:
        """F(v) in nats, one per row."""
        return free_energy(v_BD, self.W_DH, self.b_v, self.b_h)

    def hidden_means(self, v_BD: Tensor) -> Tensor:
        """p(h=1 | v)."""
        return torch.addmm(self.b_h, v_BD, self.W_DH).sigmoid()

    def losses(self, batch: FrameBatch) -> dict[str, Tensor]:
        x_BD = batch.x_BD
        a_BH, v_CD, end_CH = self.run_chains(x_BD)
        self._watch(x_BD, a_BH)
        if self.centered:
            mean_H = all_reduce_sum(a_BH.sigmoid().mean(0)) / this_rank()[1]
            self.mean_H.lerp_(mean_H, MEAN_RATE)
        known = x_BD, a_BH, v_CD, end_CH
        contrast = ContrastiveLoss.apply(self.W_DH, self.b_v, self.b_h, *known)
        losses = {"contrastive": contrast}
        if self.sparsity is not None:
            q_H = self.hidden_means(x_BD).mean(0)
            target_H = torch.full_like(q_H, self.sparsity)
            cost = F.binary_cross_entropy(q_H, target_H, reduction="sum")
            losses["sparsity"] = self.sparsity_cost * cost
        return losses

    @torch.no_grad()
    def run_chains(self, x_BD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """k Gibbs steps from the data, or of the persistent chains from where they stand: c + x W
        of the data, the chains' ends v, and c + v W."""
        W_DH, b_v, b_h = self.W_DH.detach(), self.b_v.detach(), self.b_h.detach()
        gibbs = self._gibbs
        if gibbs is None or (self.chain == "cd" and not gibbs.fits(len(x_BD), x_BD.device)):
            gibbs = self._gibbs = GibbsChains(len(x_BD), W_DH)
            if self._resumed_SH is not None and self._resumed_SH.shape == gibbs.h_BH.shape:
                gibbs.h_BH.copy_(self._resumed_SH)
        start = gibbs.set_visible if self.chain == "cd" else affine
        a_BH = start(x_BD, W_DH, b_h)
        return a_BH, gibbs.run(self.k, W_DH, b_v, b_h), gibbs.a_BH

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        if self.centered:
            self._center_gradient()

    @torch.no_grad()
    def _center_gradient(self) -> None:
        """From the gradient of W, b, c to that of the centred machine, in place:

        ∂W' = ∂W − μ ∂cᵀ − ∂b λᵀ     ∂b' = ∂b − ∂W' λ     ∂c' = ∂c − ∂W'ᵀ μ
        """
        to_W, to_v, to_h = self.W_DH.grad, self.b_v.grad, self.b_h.grad
        assert to_W is not None
        assert to_v is not None
        assert to_h is not None
        to_W.addr_(self.mean_D, to_h, alpha=-1).addr_(to_v, self.mean_H, alpha=-1)
        to_v.addmv_(to_W, self.mean_H, alpha=-1)
        to_h.addmv_(to_W.t(), self.mean_D, alpha=-1)

    @torch.no_grad()
    def _watch(self, x_BD: Tensor, a_BH: Tensor) -> None:
        """The tutorial's monitor, where it is this update's turn."""
        if len(self._reference) * len(x_BD) < REFERENCE_ROWS:
            self._reference.append(x_BD)
        turn, self._updates = self._updates, self._updates + 1
        if not self.monitor_every or turn % self.monitor_every:
            return
        if self.chain == "pcd":
            bit = turn // self.monitor_every % self.spec.dim
            self.accumulate(
                len(x_BD), pseudo_likelihood=self.pseudo_likelihood(x_BD, bit, a_BH).mean()
            )
        else:
            assert self._gibbs is not None
            monitor_B = _cross_entropy(self._gibbs.logit_BD, x_BD)
            self.accumulate(len(x_BD), reconstruction=monitor_B.mean())

    @torch.no_grad()
    def pseudo_likelihood(self, x_BD: Tensor, bit: int, a_BH: Tensor | None = None) -> Tensor:
        """D · log p(x_bit | the others), one per row; the input is rounded, as in the tutorial.

        The mean over bits is the log pseudo-likelihood. Flipping one bit moves every hidden
        activation by one row of W, so F(flipped) costs no second matrix product; a_BH is
        c + x W, where that is known.
        """
        rounded_BD = x_BD.round()
        # To ask a GPU whether they are equal is to wait for all it has been given to do.
        if a_BH is None or x_BD.is_cuda or not torch.equal(rounded_BD, x_BD):
            a_BH = affine(rounded_BD, self.W_DH, self.b_h)
        at_x_B = F.softplus(a_BH).sum(-1)
        return self.spec.dim * self._log_conditional(rounded_BD, a_BH, at_x_B, bit)

    def full_pseudo_likelihood(self, x_BD: Tensor) -> Tensor:
        """Σ_i log p(x_i | the others), every bit, one per row."""
        x_BD = x_BD.round()
        a_BH = torch.addmm(self.b_h, x_BD, self.W_DH)
        at_x_B = F.softplus(a_BH).sum(-1)
        total_B = torch.zeros(len(x_BD), dtype=torch.float64, device=x_BD.device)
        for bit in range(self.spec.dim):
            total_B += self._log_conditional(x_BD, a_BH, at_x_B, bit)
        return total_B

    def _log_conditional(self, x_BD: Tensor, a_BH: Tensor, at_x_B: Tensor, bit: int) -> Tensor:
        """log σ(F(x with this bit flipped) − F(x))."""
        change_B = 1 - 2 * x_BD[:, bit]
        flipped_B = F.softplus(torch.addcmul(a_BH, change_B[:, None], self.W_DH[bit])).sum(-1)
        return F.logsigmoid(at_x_B - flipped_B - change_B * self.b_v[bit])

    def on_fit_start(self) -> None:
        """Take the training data's means, for AIS and for the visible biases."""
        if self.trainer.ckpt_path:
            return  # a resumed run has them
        total_D, rows = torch.zeros(self.spec.dim, dtype=torch.float64), 0
        for batch in self.trainer.datamodule.train_dataloader():  # type: ignore[attr-defined]
            total_D += batch.x_BD.sum(0, dtype=torch.float64)
            rows += len(batch.x_BD)
        every = all_reduce_sum(torch.cat([total_D, torch.tensor([float(rows)])]).to(self.device))
        # One row more, half on: a pixel that is never lit keeps a finite bias.
        self.mean_D.copy_((every[:-1] + 0.5) / (every[-1] + 1))
        if self.visible_bias == "log_odds":
            with torch.no_grad():
                self.b_v.copy_(self.mean_D.logit())

    def training_state(self) -> dict[str, Any]:
        """The persistent chains (S, H), which bit the monitor has come to, and the rows whose
        free energy is compared with validation's."""
        chains_SH = self._gibbs.h_BH if self.chain == "pcd" and self._gibbs is not None else None
        own = {"chains": chains_SH, "updates": self._updates, "reference": list(self._reference)}
        return super().training_state() | own

    def load_training_state(self, state: dict[str, Any]) -> None:
        super().load_training_state(state)
        self._updates, self._reference = state["updates"], list(state["reference"])
        self._resumed_SH, self._gibbs = state["chains"], None

    # --- Measuring --------------------------------------------------------------------------

    def new_metric(self) -> Metric:
        return RowMeans(["pseudo_likelihood", "reconstruction", "free_energy", "train_energy"])

    def score(self, batch: FrameBatch, metric: Metric, stage: str) -> None:
        x_BD = batch.x_BD
        if stage == "test":
            pseudo_B = self.full_pseudo_likelihood(x_BD)
        else:
            pseudo_B = self._one_bit_each(x_BD)
        metric.update(
            pseudo_likelihood=pseudo_B,
            reconstruction=self.reconstruction(x_BD),
            free_energy=self.free_energy(x_BD),
        )

    def _one_bit_each(self, x_BD: Tensor) -> Tensor:
        """The stochastic pseudo-likelihood, another bit in every row, the same in every epoch."""
        x_BD = x_BD.round()
        bits_B = torch.arange(len(x_BD), device=x_BD.device) * 11 % self.spec.dim
        change_B1 = 1 - 2 * x_BD.gather(1, bits_B[:, None])
        a_BH = torch.addmm(self.b_h, x_BD, self.W_DH)
        flipped_BH = a_BH + change_B1 * self.W_DH[bits_B]
        rise_B = (F.softplus(a_BH) - F.softplus(flipped_BH)).sum(-1)
        return self.spec.dim * F.logsigmoid(rise_B - change_B1[:, 0] * self.b_v[bits_B])

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
        """What AIS needs: the weights, and the base-rate model of the training data."""
        W_DH, b_v, b_h = self.W_DH.detach(), self.b_v.detach(), self.b_h.detach()
        return AnnealedRBM(W_DH, b_v, b_h, self.mean_D.logit(), torch.zeros_like(b_h))

    @torch.inference_mode()
    def assess(
        self,
        data: Any,
        split: Literal["test", "val"] = "test",
        chains: int = 100,
        reverse_rows: int = 100,
        schedule: tuple[tuple[int, float], ...] = tuple(SALAKHUTDINOV_MURRAY),
        seed: int = 0,
    ) -> dict[str, float]:
        """The mean log-likelihood of the split in nats, from both sides (`musegen.energy.ais`).

        `chains` run forward; `reverse_rows` rows of the split, drawn and made binary by lot, run
        backward; 0 leaves a direction out. `log_likelihood` and `log_likelihood_raise` are
        −mean F over the *whole* split less the one and the other log Z: the error of the reverse
        one is thus that of log Z over rows, not that of the digits being unlike.

        Intensities between 0 and 1 are put into F as they are. F is concave, so this is less
        than the mean over binary images drawn from them.
        """
        if any(n < 0 or n == 1 for n in (chains, reverse_rows)):
            raise UserError(
                f"assess: chains={chains} and reverse_rows={reverse_rows} must be 0 or at least 2: "
                "one alone has no standard error"
            )
        loader = data.test_dataloader() if split == "test" else data.val_dataloader()
        x_ND = torch.cat([batch.x_BD for batch in loader]).to(self.W_DH)
        machine = self.with_base()
        log_f = machine.log_f(x_ND).mean()
        generator = torch.Generator(self.device).manual_seed(seed)
        metrics: dict[str, Tensor] = {}
        if chains:
            z = forward_ais(machine, chains, schedule, generator)
            metrics |= {
                "log_likelihood": log_f - z.value,
                "log_z": z.value,
                "log_z_error": z.error,
                "effective_chains": z.effective_chains,
            }
        if reverse_rows:
            order_N = torch.randperm(len(x_ND), generator=generator, device=self.device)
            p_ND = x_ND[order_N[:reverse_rows]]
            start_ND = torch.empty_like(p_ND).uniform_(generator=generator).lt_(p_ND)
            z_N = reverse_ais(machine, start_ND, 1, schedule, generator)
            metrics |= {
                "log_likelihood_raise": log_f - z_N.mean(),
                "log_z_reverse": z_N.mean(),
                "log_z_reverse_error": z_N.std() / math.sqrt(len(z_N)),
            }
        return {name: float(value) for name, value in metrics.items()}

    # --- Dreaming ---------------------------------------------------------------------------

    @torch.inference_mode()
    def generate(
        self,
        n: int = 20,
        rows: int = 10,
        steps: int = 1000,
        start_ND: Tensor | None = None,
        seed: int = 0,
    ) -> list[np.ndarray]:
        """`rows` looks at n Gibbs chains, `steps` apart, each the mean field (n, D) in [0, 1].

        Chains start at `start_ND`, else at bits drawn from the training data's means. The
        generator is their own: training and the global random streams are left as they were.

        Raises `UserError` for settings out of range.
        """
        if min(n, rows, steps) < 1:
            raise UserError(f"n={n}, rows={rows} and steps={steps} must be at least 1")
        generator = torch.Generator(self.device).manual_seed(seed)
        if start_ND is None:
            base_ND = self.mean_D.expand(n, -1)
            start_ND = torch.empty_like(base_ND).uniform_(generator=generator).lt_(base_ND)
        gibbs = GibbsChains(len(start_ND), self.W_DH)
        gibbs.set_visible(start_ND.to(self.W_DH), self.W_DH, self.b_h, generator)
        looks = []
        for _ in range(rows):
            gibbs.run(steps, self.W_DH, self.b_v, self.b_h, generator)
            looks.append(gibbs.p_BD.cpu().numpy().copy())
        return looks

    def filters(self) -> np.ndarray:
        """The weights of each hidden unit, (H, D)."""
        return self.W_DH.detach().t().cpu().numpy()

    def reconstruction(self, x_BD: Tensor) -> Tensor:
        """The cross-entropy of the mean field one step from x, nats, one per row."""
        logit_BD = torch.addmm(self.b_v, self.hidden_means(x_BD), self.W_DH.t())
        return _cross_entropy(logit_BD, x_BD)

    @torch.inference_mode()
    def reconstruct(self, x_BD: Tensor) -> Tensor:
        """The mean field one step from x: p(v=1 | E[h | x])."""
        return torch.addmm(self.b_v, self.hidden_means(x_BD), self.W_DH.t()).sigmoid()


def _cross_entropy(logit_BD: Tensor, x_BD: Tensor) -> Tensor:
    """−Σ_d x log σ(a) + (1−x) log σ(−a), one per row; finite however sure the machine is."""
    return F.binary_cross_entropy_with_logits(logit_BD, x_BD, reduction="none").sum(-1)
