"""The best of several random beginnings, for nets that most beginnings lead astray."""

from __future__ import annotations

import itertools

import pytorch_lightning as pl
import torch

from musegen.contracts import UserError


class BestStart(pl.Callback):
    """Before training, teaches `tries` fresh nets `steps` steps each and goes on with the best.

    Every net sees the same first batches, by the model's own optimiser at its full rate, and the
    one with the lowest training loss in its last tenth is kept, its own weights included. Neither
    validation nor test data are looked at.
    """

    def __init__(self, tries: int = 10, steps: int = 200) -> None:
        if min(tries, steps) < 1:
            raise UserError(f"tries={tries} and steps={steps} must be at least 1")
        self.tries, self.steps = tries, steps

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.ckpt_path is not None:  # a resumed run has begun already
            return
        settings = {k: v for k, v in pl_module.hparams.items() if k != "name"}
        loader = trainer.datamodule.train_dataloader()  # type: ignore[attr-defined]
        best: tuple[float, dict[str, torch.Tensor]] | None = None
        for _ in range(self.tries):
            net = type(pl_module)(**settings).to(pl_module.device)
            optimizer = pl_module.optimizer.build(net.parameters())  # type: ignore[union-attr,operator]
            losses = []
            epochs = (batch for _ in itertools.count() for batch in loader)
            for batch in itertools.islice(epochs, self.steps):
                batch = type(batch)(*(x.to(net.device) for x in batch))
                loss = torch.stack(list(net.losses(batch).values())).sum()  # type: ignore[operator]
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                losses.append(float(loss.detach()))
            last = losses[-max(1, self.steps // 10) :]
            score = sum(last) / len(last)
            if best is None or score < best[0]:
                best = score, net.state_dict()
        assert best is not None
        pl_module.load_state_dict(best[1])
        print(f"begin  with the best of {self.tries} starts, training loss {best[0]:.4f}")
