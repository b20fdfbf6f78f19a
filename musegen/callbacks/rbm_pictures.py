"""What an RBM has learned, as pictures: filters every epoch, samples and reconstructions last."""

from __future__ import annotations

from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from musegen.models.rbm import RBM
from musegen.render.tiles import stretched, write_tiles

FILTERS = 10
"""The tile image of filters is ten by ten, as in the tutorial."""


class RBMPictures(pl.Callback):
    """Writes tile images below `folder`.

    - `filters/epoch_NN.png` after every epoch: the weights of the first 100 hidden units.
    - `samples.png` after training: `chains` chains started at test rows, `rows` looks `steps`
      Gibbs steps apart, the mean field drawn.
    - `reconstructions.png`: the same test rows above their mean field one step on.
    """

    def __init__(self, folder: Path, chains: int = 20, rows: int = 10, steps: int = 1000) -> None:
        self.folder, self.chains, self.rows, self.steps = Path(folder), chains, rows, steps

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, RBM)
        weights_ND = stretched(pl_module.W_DH.detach()[:, : FILTERS**2].t().cpu().numpy())
        grid = [weights_ND[i : i + FILTERS] for i in range(0, len(weights_ND), FILTERS)]
        write_tiles(grid, self.folder / "filters" / f"epoch_{trainer.current_epoch + 1:02d}.png")

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, RBM)
        batches = iter(trainer.datamodule.test_dataloader())  # type: ignore[attr-defined]
        x_ND = torch.empty(0, pl_module.spec.dim)
        while len(x_ND) < self.chains and (batch := next(batches, None)) is not None:
            x_ND = torch.cat([x_ND, batch.x_BD])[: self.chains]
        x_ND = x_ND.to(pl_module.device)
        looks = pl_module.generate(rows=self.rows, steps=self.steps, start_ND=x_ND)
        write_tiles(looks, self.folder / "samples.png")
        pair = [x_ND.cpu().numpy(), pl_module.reconstruct(x_ND).cpu().numpy()]
        write_tiles(pair, self.folder / "reconstructions.png")
