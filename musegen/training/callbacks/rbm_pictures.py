"""The deep learning tutorial's pictures of an RBM at the end of its training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from musegen.constraints import PositiveInt, check_arguments
from musegen.models.rbm import RBM
from musegen.render.tiles import write_tiles
from musegen.runtime.distributed import single_process
from musegen.training.callbacks.samples import Samples
from musegen.training.lightning_compat import required_datamodule
from musegen.training.loggers.media import MediaLog, log_media


class RBMPictures(Samples):
    """`Samples`, and after training two more tile images in the folder `final`:

    - `chains.png`: `chains` Gibbs chains that start at test examples; `rows` rows, `steps` Gibbs
      steps apart, each the mean field.
    - chains, rows, steps: of these chains.
    - `reconstructions.png`: the same test examples, and below them the mean field one step later.

    `sound`, which the config sets for every model, makes no difference to pictures.

    Raises `UserError` for a setting outside its range.
    """

    @check_arguments
    def __init__(
        self,
        folder: Path,
        every: PositiveInt = 1,
        settings: dict[str, Any] | None = None,
        chains: PositiveInt = 20,
        rows: PositiveInt = 10,
        steps: PositiveInt = 1000,
        sound: str = "piano",
    ) -> None:
        super().__init__(folder, every, settings, sound)
        self.chains, self.rows, self.steps = chains, rows, steps

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        required_datamodule(trainer, "RBMPictures")

    @rank_zero_only
    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, RBM)
        x_ND = torch.empty(0, pl_module.spec.dim)
        with single_process():
            batches = iter(trainer.datamodule.test_dataloader())  # type: ignore[attr-defined]
            while len(x_ND) < self.chains and (batch := next(batches, None)) is not None:
                x_ND = torch.cat([x_ND, batch.x_BD])[: self.chains]
        x_ND = x_ND.to(pl_module.W_DH)
        chain_rows = pl_module.generate(rows=self.rows, steps=self.steps, start_ND=x_ND)
        reconstruction_rows = [x_ND.cpu().numpy(), pl_module.reconstruct(x_ND).cpu().numpy()]
        files = [
            write_tiles(chain_rows, self.folder / "final" / "chains.png"),
            write_tiles(reconstruction_rows, self.folder / "final" / "reconstructions.png"),
        ]
        log_media(trainer.loggers, MediaLog(trainer.current_epoch, trainer.global_step, files))
