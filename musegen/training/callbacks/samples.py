"""What the model makes while it learns: the same piece, growing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from musegen.errors import UserError
from musegen.models.base import Model
from musegen.render.samples import WRITERS, text_rows
from musegen.render.tiles import squared, stretched, write_tiles
from musegen.training.loggers.media import MediaLog, log_media

FILTERS = 100
"""As many are drawn, as in the deep learning tutorial."""


class Samples(pl.Callback):
    """Every `every` epochs lets the model generate, with `settings` and the same seed each time.

    The files go to `folder/epoch_NNN`, in the forms of `musegen.render.samples`; the first 100
    filters of a model that has any are drawn beside them. Loggers that have a form for samples
    show them. `generate` has random numbers of its own, so that the training goes on as if
    nothing had been.

    Raises `UserError` for an `every` below 1.
    """

    def __init__(
        self, folder: Path, every: int = 10, settings: dict[str, Any] | None = None
    ) -> None:
        if every < 1:
            raise UserError(f"callbacks.samples.every={every}: must be at least 1")
        self.folder, self.every, self.settings = Path(folder), every, settings or {}

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Model)
        epoch = trainer.current_epoch + 1
        if epoch % self.every:
            return
        folder = self.folder / f"epoch_{epoch:03d}"
        samples = pl_module.generate(**self.settings)
        files = WRITERS[type(pl_module.spec)](samples, folder)
        if (filters_ND := pl_module.filters()) is not None:
            first_ND = stretched(filters_ND[:FILTERS])
            files.append(write_tiles(squared(first_ND), folder / "filters.png"))
        texts = text_rows(pl_module.spec, samples)
        log_media(trainer.loggers, MediaLog(epoch, trainer.global_step, files, texts))
