"""Two stages before an RNN-RBM is taught as a whole: its RBM alone, its recurrent net alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.errors import UserError
from musegen.models.rbm import RBM
from musegen.models.rnn_rbm import RNNRBM
from musegen.specs import FrameBatch, Frames, RollBatch
from musegen.training.optimizer import Optimizer

Log = Callable[[str, int, int, float], None]


class Pretraining(pl.Callback):
    """Stages `rbm` and `rnn` of a run; the fit that follows teaches everything jointly.

    - `rbm`: W, b_v and b_h as those of one RBM of single frames in random order, by PCD with
      `rbm_k` steps, momentum 0.5, L2 2e-4 and a rate that falls to 0 along a cosine.
    - `rnn`: the recurrent net and W_uv as those of a net that predicts every frame by itself,
      p(v(t)) = σ(c + u(t−1) W_uv), by cross-entropy with AdamW (ICML 2012, section 4).

    A stage of 0 epochs is left out. A resumed run has them behind it. Each epoch's metric goes
    to the loggers: `rbm/reconstruction` and `rnn/cross_entropy`, nats per frame.
    """

    def __init__(
        self,
        rbm_epochs: int = 100,
        rbm_lr: float = 0.1,
        rbm_k: int = 5,
        rbm_batch_size: int = 100,
        rnn_epochs: int = 0,
        rnn_lr: float = 0.003,
    ) -> None:
        if min(rbm_epochs, rnn_epochs) < 0 or min(rbm_k, rbm_batch_size) < 1:
            raise UserError(
                f"pretraining: rbm_epochs={rbm_epochs} and rnn_epochs={rnn_epochs} must not be "
                f"negative, rbm_k={rbm_k} and rbm_batch_size={rbm_batch_size} at least 1"
            )
        self.rbm_epochs, self.rbm_k, self.rbm_batch_size = rbm_epochs, rbm_k, rbm_batch_size
        self.rbm_optimizer = Optimizer(
            "sgd", rbm_lr, weight_decay=2e-4, momentum=0.5, schedule="cosine"
        )
        self.rnn_epochs = rnn_epochs
        self.rnn_optimizer = Optimizer("adamw", rnn_lr, weight_decay=0.01, schedule="cosine")

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, RNNRBM)
        if trainer.ckpt_path is not None:
            return
        batches = [
            pl_module.to_device(batch)
            for batch in trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        ]

        def log(metric: str, epoch: int, epochs: int, value: float) -> None:
            for logger in trainer.loggers:
                logger.log_metrics({metric: value, "epoch": epoch}, epoch)
            if trainer.is_global_zero and epoch + 1 in (1, epochs):
                print(f"stage {metric} {value:.4f} after {epoch + 1}/{epochs} epochs", flush=True)

        self.train_rbm(pl_module, batches, log)
        self.train_rnn(pl_module, batches, log)
        # Every rank has taught its own share of the data; all go on from the first one's weights.
        pl_module.load_state_dict(trainer.strategy.broadcast(pl_module.state_dict()))

    def train_rbm(self, model: RNNRBM, batches: Sequence[RollBatch], log: Log) -> None:
        """Stage `rbm`, by the house's own RBM."""
        if not self.rbm_epochs:
            return
        x_ND = torch.cat([b.x_BTD[b.mask_BT] for b in batches])
        rbm = RBM(Frames(model.spec.pitches), hidden=len(model.b_h), chain="pcd", k=self.rbm_k)
        rbm.to(x_ND)
        shared = {"W_DH": model.W_DH, "b_v": model.b_v, "b_h": model.b_h}
        rbm.load_state_dict(shared | {"b_v": log_odds(x_ND)}, strict=False)
        width = min(self.rbm_batch_size, len(x_ND))

        def frames() -> list[FrameBatch]:
            order_N = torch.randperm(len(x_ND), device=x_ND.device)
            # Persistent chains are as many as a batch has rows: the last rows wait their turn.
            return [FrameBatch(x_ND[i_B]) for i_B in order_N.split(width)][: len(x_ND) // width]

        def loss(batch: FrameBatch) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                metric = rbm.reconstruction(batch.x_BD).mean()
            return rbm.losses(batch)["contrastive"], metric

        metrics = train_epochs(rbm, self.rbm_optimizer, self.rbm_epochs, frames, loss)
        for epoch, value in enumerate(metrics):
            log("rbm/reconstruction", epoch, self.rbm_epochs, value)
        model.load_state_dict({name: rbm.state_dict()[name] for name in shared}, strict=False)

    def train_rnn(self, model: RNNRBM, batches: Sequence[RollBatch], log: Log) -> None:
        """Stage `rnn`."""
        if not self.rnn_epochs:
            return
        net = nn.Module()  # what this stage moves
        net.recurrence, net.W_uv = model.recurrence, model.W_uv
        net.c = nn.Parameter(log_odds(torch.cat([b.x_BTD[b.mask_BT] for b in batches])))

        def pieces() -> list[RollBatch]:
            return [batches[i] for i in torch.randperm(len(batches)).tolist()]

        def loss(batch: RollBatch) -> tuple[Tensor, Tensor]:
            u_NR = model.dropout(model.recurrence.states_before(batch.x_BTD)[batch.mask_BT])
            logit_ND, x_ND = net.c + u_NR @ model.W_uv, batch.x_BTD[batch.mask_BT]
            cross = F.binary_cross_entropy_with_logits(logit_ND, x_ND, reduction="sum")
            return cross / len(x_ND), cross.detach() / len(x_ND)

        metrics = train_epochs(net, self.rnn_optimizer, self.rnn_epochs, pieces, loss)
        for epoch, value in enumerate(metrics):
            log("rnn/cross_entropy", epoch, self.rnn_epochs, value)


def train_epochs(
    net: nn.Module,
    optimizer: Optimizer,
    epochs: int,
    batches: Callable[[], list[Any]],
    loss: Callable[[Any], tuple[Tensor, Tensor]],
) -> Iterator[float]:
    """Update the net batch by batch; yields every epoch's mean metric.

    A loop of its own: these updates take a millisecond, and Lightning would take another.
    """
    updates = optimizer.build(net.parameters())
    total = epochs * len(batches())
    rate = torch.optim.lr_scheduler.LambdaLR(updates, lambda step: optimizer.rate(step, total))
    for _ in range(epochs):
        metrics = []
        for batch in batches():
            part, metric = loss(batch)
            updates.zero_grad()
            part.backward()
            updates.step()
            rate.step()
            metrics.append(metric)
        yield float(torch.stack(metrics).mean())


def log_odds(x_ND: Tensor) -> Tensor:
    """The logit of each unit's mean; one row more, half on, keeps it finite."""
    return ((x_ND.sum(0) + 0.5) / (len(x_ND) + 1)).logit()
