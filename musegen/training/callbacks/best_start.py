"""The best of several random initialisations, for networks that often fail to train."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch

from musegen.constraints import PositiveFloat, PositiveInt, check_arguments
from musegen.metrics.capacity import capacity
from musegen.runtime.distributed import single_process
from musegen.runtime.progress import track
from musegen.runtime.random_streams import Stream, seed_default_generators
from musegen.training.lightning_compat import required_datamodule


class BestStart(pl.Callback):
    """Before training, trains `tries` new networks for `steps` steps and keeps the best one.

    - lr: the learning rate of the tries, which falls to 0 along a cosine; null takes the highest
      one of the model's own optimiser, constant.
    - enough: a capacity that is kept at once, without further tries; null makes all tries.

    Each network is trained on the batches of the first epoch, repeated as needed, with the model's
    own optimiser. The one with the highest counting capacity on the
    validation range is kept; equal ones are decided by the lower last training loss. Test data are
    not used. A resumed run skips this, and so does one with `init_from`. Raises `UserError` for a
    setting below 1.
    """

    @check_arguments
    def __init__(
        self,
        tries: PositiveInt = 10,
        steps: PositiveInt = 200,
        enough: PositiveInt | None = None,
        lr: PositiveFloat | None = None,
    ) -> None:
        self.tries, self.steps, self.enough, self.lr = tries, steps, enough, lr

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.ckpt_path is not None or pl_module.initialised:
            return
        data = required_datamodule(trainer, "BestStart")
        with single_process():
            batches = list(data.train_dataloader())
        best: tuple[tuple[int, float], dict[str, torch.Tensor]] | None = None
        seed = torch.initial_seed()
        for start in track(range(self.tries), "trying starts", "starts"):
            seed_default_generators(Stream.STARTS, seed, start, device=pl_module.device)
            net, loss = self._train_new(pl_module, batches)
            score = (capacity(net, data.grammar, data.ranges["val"][1]), -loss)
            if best is None or score > best[0]:
                best = score, net.state_dict()
            if self.enough is not None and score[0] >= self.enough:
                break
        assert best is not None
        # Every process has tried the same networks, but rounding may differ between devices.
        pl_module.load_state_dict(trainer.strategy.broadcast(best[1]))
        print(f"start  the best of {start + 1} random starts, capacity {best[0][0]}")

    def _train_new(
        self, pl_module: pl.LightningModule, batches: Sequence[Any]
    ) -> tuple[pl.LightningModule, float]:
        """A new network after `steps` steps of training, and its last training loss."""
        not_settings = ("name", "import_path", "musegen_version")
        settings = {k: v for k, v in pl_module.hparams.items() if k not in not_settings}
        net = type(pl_module)(**settings).to(pl_module.device)
        optimizer = pl_module.optimizer.build(net.parameters())  # type: ignore[union-attr,operator]
        for step, batch in enumerate(itertools.islice(itertools.cycle(batches), self.steps)):
            if self.lr is not None:
                for group in optimizer.param_groups:
                    group["lr"] = self.lr * 0.5 * (1 + math.cos(math.pi * step / self.steps))
            batch = type(batch)(*(x.to(net.device) for x in batch))
            loss = torch.stack(list(net.losses(batch).values())).sum()  # type: ignore[operator]
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        return net, float(loss.detach())
