"""RNN-RBM: at every step of a sequence a restricted Boltzmann machine, its biases from a recurrent net.

After Boulanger-Lewandowski, Bengio & Vincent (ICML 2012) and the tutorial's `rnnrbm.py`:

    b_v(t) = b_v + u(t−1) W_uv          b_h(t) = b_h + u(t−1) W_uh
    u(t)   = tanh(b_u + v(t) W_vu + u(t−1) W_uu), or an LSTM or GRU

    p(v(1) … v(T)) = Π_t p(v(t) | u(t−1)),   each factor an RBM with W, b_v(t), b_h(t)

u(t) depends on the data alone, so one pass of the recurrent net gives every machine, and one
Gibbs chain runs through all frames of all sequences of a batch together. The loss is
mean_t F_t(data) − F_t(chain end), the chain end held constant (`musegen.gibbs`); what it moves
in the biases goes back through time.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.codecs.pianoroll import RollCodec
from musegen.contracts import RollBatch, Rolls, UserError
from musegen.gibbs import GibbsChains
from musegen.metrics.means import RowMeans
from musegen.models.dropout import Dropout
from musegen.models.energy import EnergyModel
from musegen.models.recurrence import Cell, Recurrence

W_STD, OTHER_STD = 0.01, 0.0001
"""Standard deviations of the tutorial's initial weights: of W, and of the other matrices."""


class RNNRBM(EnergyModel):
    """RBMs with `hidden` units conditioned on `recurrent` units.

    - cell: `tanh` (the paper's), `lstm` or `gru`.
    - k: Gibbs steps an update, from the data (CD-k).
    - dropout: of u where it enters the biases.
    - learn_start: learn u(0), which is 0 otherwise.
    - rbm_rate: the learning rate of W, b_v and b_h as a multiple of the optimiser's.

    Logged besides the loss: `monitor`, the tutorial's: Σ v log p + (1−v) log(1−p) with p the mean
    field one Gibbs step after the chain's end, in nats per frame, from logits and so finite.
    """

    name: ClassVar[str] = "rnn_rbm"
    reads = (Rolls,)
    codec_type = RollCodec
    monitor = ("val/monitor", "max")
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
        learn_start: bool = False,
        rbm_rate: float = 1.0,
    ) -> None:
        super().__init__(spec, codec)
        self.remember()
        if min(hidden, recurrent, k) < 1:
            raise UserError(
                f"model: hidden={hidden}, recurrent={recurrent} and k={k} must be at least 1"
            )
        if not (0 <= dropout < 1 and rbm_rate >= 0):
            raise UserError(
                f"model: dropout={dropout} must lie in [0, 1), rbm_rate={rbm_rate} not be negative"
            )
        self.k, self.rbm_rate = k, rbm_rate
        visible = self.spec.pitches
        self.W_DH = nn.Parameter(torch.randn(visible, hidden) * W_STD)
        self.b_v = nn.Parameter(torch.zeros(visible))
        self.b_h = nn.Parameter(torch.zeros(hidden))
        self.W_uv = nn.Parameter(torch.randn(recurrent, visible) * OTHER_STD)
        self.W_uh = nn.Parameter(torch.randn(recurrent, hidden) * OTHER_STD)
        self.recurrence = Recurrence(cell, visible, recurrent, OTHER_STD, learn_start)
        self.dropout = Dropout(dropout)

    # --- Teaching ---------------------------------------------------------------------------

    def machines(self, batch: RollBatch) -> tuple[Tensor, Tensor, Tensor]:
        """The N real frames of a batch and the biases of their machines: x_ND, b_v_ND, b_h_NH."""
        u_NR = self.recurrence.before_each(batch.x_BTD)[batch.mask_BT]
        return batch.x_BTD[batch.mask_BT], *self.biases(u_NR)

    def biases(self, u_NR: Tensor) -> tuple[Tensor, Tensor]:
        """b_v(t) and b_h(t) from u(t−1), one machine a row."""
        u_NR = self.dropout(u_NR)
        return torch.addmm(self.b_v, u_NR, self.W_uv), torch.addmm(self.b_h, u_NR, self.W_uh)

    def losses(self, batch: RollBatch) -> dict[str, Tensor]:
        x_ND, b_v_ND, b_h_NH = self.machines(batch)
        gibbs = self.chains(x_ND, b_v_ND, b_h_NH)
        end_ND = gibbs.v_BD
        # Data and chain ends in one product, and so in one product on the way back.
        a_NH, a_end_NH = (torch.cat([x_ND, end_ND]) @ self.W_DH).chunk(2)
        rise_NH = F.softplus(a_NH + b_h_NH) - F.softplus(a_end_NH + b_h_NH)
        contrast = -(((x_ND - end_ND) * b_v_ND).sum() + rise_NH.sum()) / len(x_ND)
        self.note("monitor", self.reached(gibbs, x_ND, b_v_ND).mean(), len(x_ND))
        return {"contrast": contrast}

    @torch.no_grad()
    def chains(
        self,
        start_ND: Tensor,
        b_v_ND: Tensor,
        b_h_NH: Tensor,
        generator: torch.Generator | None = None,
    ) -> GibbsChains:
        """k Gibbs steps of every frame's machine, together."""
        gibbs = GibbsChains(len(start_ND), self.W_DH)
        gibbs.set_visible(start_ND, self.W_DH, b_h_NH, generator)
        gibbs.run(self.k, self.W_DH, b_v_ND, b_h_NH, generator)
        return gibbs

    @torch.no_grad()
    def reached(self, gibbs: GibbsChains, x_ND: Tensor, b_v_ND: Tensor) -> Tensor:
        """The tutorial's monitor of each frame, nats: log p(x) by the mean field after the end."""
        logit_ND = torch.addmm(b_v_ND, gibbs.h_BH, self.W_DH.t())
        cross = F.binary_cross_entropy_with_logits(logit_ND, x_ND, reduction="none")
        return -cross.sum(-1)

    def steps(self, batch: RollBatch) -> int:
        return int(batch.mask_BT.sum())

    # --- Measuring --------------------------------------------------------------------------

    def new_metric(self) -> RowMeans:
        return RowMeans(["monitor"])

    def score(self, batch: RollBatch, metric: RowMeans, stage: str) -> None:
        x_ND, b_v_ND, b_h_NH = self.machines(batch)
        generator = torch.Generator(self.device).manual_seed(0)
        gibbs = self.chains(x_ND, b_v_ND, b_h_NH, generator)
        metric.update(monitor=self.reached(gibbs, x_ND, b_v_ND))

    def generate(self, n: int = 4) -> list:
        return []
