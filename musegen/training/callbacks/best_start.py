"""The best of several random beginnings, for nets that most beginnings lead astray."""

from __future__ import annotations

import itertools

import pytorch_lightning as pl
import torch

from musegen.errors import UserError
from musegen.metrics.capacity import capacity
from musegen.runtime.progress import track


class BestStart(pl.Callback):
    """Before training, teaches `tries` fresh nets `steps` steps each and goes on with the best.

    Every net sees the batches of the first epoch, again and again, by the model's own optimiser
    at its full rate. The one that counts farthest on validation's range is kept, and among equals
    the one with the lower last training loss; test data are not looked at.
    """

    def __init__(self, tries: int = 10, steps: int = 200) -> None:
        if min(tries, steps) < 1:
            raise UserError(f"tries={tries} and steps={steps} must be at least 1")
        self.tries, self.steps = tries, steps

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.ckpt_path is not None:  # a resumed run has begun already
            return
        settings = {
            k: v for k, v in pl_module.hparams.items() if k not in ("name", "musegen_version")
        }
        batches = list(trainer.datamodule.train_dataloader())  # type: ignore[attr-defined]
        best: tuple[tuple[int, float], dict[str, torch.Tensor]] | None = None
        for _ in track(range(self.tries), "trying starts", "starts"):
            net = type(pl_module)(**settings).to(pl_module.device)
            optimizer = pl_module.optimizer.build(net.parameters())  # type: ignore[union-attr,operator]
            for batch in itertools.islice(itertools.cycle(batches), self.steps):
                batch = type(batch)(*(x.to(net.device) for x in batch))
                loss = torch.stack(list(net.losses(batch).values())).sum()  # type: ignore[operator]
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
            data = trainer.datamodule  # type: ignore[attr-defined]
            far = capacity(net, data.grammar, data.ranges["val"][1])
            score = (far, -float(loss.detach()))
            if best is None or score > best[0]:
                best = score, net.state_dict()
        assert best is not None
        # Every process has tried with its own share of the data.
        pl_module.load_state_dict(trainer.strategy.broadcast(best[1]))
        print(f"begin  with the best of {self.tries} starts, capacity {best[0][0]}")
