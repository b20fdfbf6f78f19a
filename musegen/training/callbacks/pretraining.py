"""Pretraining of an RNN-RBM in two stages: first its RBM, then its recurrent network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.constraints import NonNegativeInt, PositiveFloat, PositiveInt, check_arguments
from musegen.models.rbm import RBM
from musegen.models.rnn_rbm import RNNRBM
from musegen.runtime.distributed import single_process
from musegen.runtime.random_streams import Stream, seed_default_generators
from musegen.specs import FrameBatch, Frames, RollBatch
from musegen.training.optimizer import Optimizer

Log = Callable[[str, int, int, float], None]


class Pretraining(pl.Callback):
    """Stages `rbm` and `rnn`, before the fit that trains all weights jointly.

    - `rbm`: trains W, b_v and b_h as one RBM of single frames in random order, by PCD with
      `rbm_k` steps, momentum 0.5, L2 2e-4 and a learning rate that falls to 0 along a cosine.
    - `rnn`: trains the recurrent network and W_uv as a network that predicts every frame directly,
      p(v(t)) = σ(c + u(t−1) W_uv), by cross-entropy with AdamW (ICML 2012, section 4).

    - rbm_epochs, rnn_epochs: the epochs of the stage; 0 skips it.
    - rbm_lr, rnn_lr: the highest learning rate of the stage.
    - rbm_k: Gibbs steps per update. rbm_batch_size: frames of an update.

    A resumed run skips both, and so does one with `init_from`. Each of several processes trains on
    all of the data, and all continue with the result of the first. Each epoch's metric is logged:
    `rbm/reconstruction` and `rnn/cross_entropy`, nats per frame. Raises `UserError` for a setting
    outside its range.
    """

    @check_arguments
    def __init__(
        self,
        rbm_epochs: NonNegativeInt = 100,
        rbm_lr: PositiveFloat = 0.1,
        rbm_k: PositiveInt = 5,
        rbm_batch_size: PositiveInt = 100,
        rnn_epochs: NonNegativeInt = 0,
        rnn_lr: PositiveFloat = 0.003,
    ) -> None:
        self.rbm_epochs, self.rbm_k, self.rbm_batch_size = rbm_epochs, rbm_k, rbm_batch_size
        self.rbm_optimizer = Optimizer(
            "sgd", rbm_lr, weight_decay=2e-4, momentum=0.5, schedule="cosine"
        )
        self.rnn_epochs = rnn_epochs
        self.rnn_optimizer = Optimizer("adamw", rnn_lr, weight_decay=0.01, schedule="cosine")

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, RNNRBM)
        if trainer.ckpt_path is not None or pl_module.initialised:
            return
        with single_process():
            batches = [pl_module.to_device(batch) for batch in pl_module.train_batches()]

        def log(metric: str, epoch: int, epochs: int, value: float) -> None:
            for logger in trainer.loggers:
                logger.log_metrics({metric: value, "epoch": epoch}, epoch)
            if trainer.is_global_zero and epoch + 1 in (1, epochs):
                print(f"pretraining: {metric} {value:.4f}, epoch {epoch + 1}/{epochs}", flush=True)

        seed = torch.initial_seed()
        for number, stage in enumerate((self.train_rbm, self.train_rnn)):
            seed_default_generators(Stream.PRETRAINING, seed, number, device=pl_module.device)
            stage(pl_module, batches, log)
        # Every rank has done the same on all data, but rounding may differ between devices.
        pl_module.load_state_dict(trainer.strategy.broadcast(pl_module.state_dict()))

    def train_rbm(self, model: RNNRBM, batches: Sequence[RollBatch], log: Log) -> None:
        """Stage `rbm`, with `musegen.models.rbm.RBM`."""
        if not self.rbm_epochs:
            return
        x_ND = torch.cat([b.x_BTD[b.mask_BT] for b in batches])
        rbm = RBM(Frames(model.spec.pitches), hidden=len(model.b_h), chain="pcd", k=self.rbm_k)
        rbm.to(x_ND)
        shared = {"W_DH": model.W_DH, "b_v": model.b_v, "b_h": model.b_h}
        rbm.load_state_dict(shared | {"b_v": log_odds(x_ND)}, strict=False)
        batch_size = min(self.rbm_batch_size, len(x_ND))

        def frames() -> list[FrameBatch]:
            order_N = torch.randperm(len(x_ND), device=x_ND.device)
            # There are as many persistent chains as a batch has frames, so a last, smaller batch is
            # left out of the epoch.
            return [FrameBatch(x_ND[i_B]) for i_B in order_N.split(batch_size)][
                : len(x_ND) // batch_size
            ]

        def loss(batch: FrameBatch) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                metric = rbm.reconstruction(batch.x_BD).mean()
            return rbm.losses(batch)["contrastive"], metric

        metrics = train_epochs(rbm, self.rbm_optimizer, self.rbm_epochs, frames, loss)
        for epoch, value in enumerate(metrics):
            log("rbm/reconstruction", epoch, self.rbm_epochs, value)
        model.load_state_dict({name: rbm.state_dict()[name] for name in shared}, strict=False)

    def train_rnn(self, model: RNNRBM, batches: Sequence[RollBatch], log: Log) -> None:
        """Stage `rnn`, the recurrent network and W_uv."""
        if not self.rnn_epochs:
            return
        net = nn.Module()  # the weights of this stage
        net.recurrence, net.W_uv = model.recurrence, model.W_uv
        net.c = nn.Parameter(log_odds(torch.cat([b.x_BTD[b.mask_BT] for b in batches])))

        def pieces() -> list[RollBatch]:
            return [batches[i] for i in torch.randperm(len(batches)).tolist()]

        def loss(batch: RollBatch) -> tuple[Tensor, Tensor]:
            u_NR = model.dropout(model.states_before(batch.x_BTD)[batch.mask_BT])
            logit_ND, x_ND = net.c + u_NR @ model.W_uv, batch.x_BTD[batch.mask_BT]
            total = F.binary_cross_entropy_with_logits(logit_ND, x_ND, reduction="sum")
            return total / len(x_ND), total.detach() / len(x_ND)

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
    """Train `net` for some epochs; yields the mean metric of each.

    `batches` gives the batches of an epoch, `loss` the loss and the metric of a batch. This is not
    a Lightning loop because an update takes one millisecond, and Lightning would add another.
    """
    torch_optimizer = optimizer.build(net.parameters())
    total = epochs * len(batches())
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        torch_optimizer, lambda step: optimizer.rate(step, total)
    )
    for _ in range(epochs):
        metrics = []
        for batch in batches():
            value, metric = loss(batch)
            torch_optimizer.zero_grad()
            value.backward()
            torch_optimizer.step()
            scheduler.step()
            metrics.append(metric)
        yield float(torch.stack(metrics).mean())


def log_odds(x_ND: Tensor) -> Tensor:
    """The logit of each unit's mean; one more frame with every unit at ½ keeps it finite."""
    return ((x_ND.sum(0) + 0.5) / (len(x_ND) + 1)).logit()
