"""Samples from the model while it trains, so that its progress can be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from musegen.config.sound import check_sound
from musegen.constraints import PositiveInt, check_arguments
from musegen.models.base import Model
from musegen.render.samples import text_rows, write_files
from musegen.render.tiles import squared, stretched, write_tiles
from musegen.training.loggers.media import MediaLog, log_media

NUM_FILTERS = 100
"""How many filters are drawn: as many as in the deep learning tutorial."""


class Samples(pl.Callback):
    """Generates samples during training, with the same `settings` and the same seed.

    - every: epochs between two previews.

    The files go to `folder/epoch_NNN`, in the formats of `musegen.render.samples`; `sound` is how
    music sounds: `piano`, `additive` or a SoundFont. If the model has filters, the first 100 are
    drawn beside them. Loggers that support media show the files.
    `generate` has its own random generator, so sampling does not change the training.
    """

    @check_arguments
    def __init__(
        self,
        folder: Path,
        every: PositiveInt = 10,
        settings: dict[str, Any] | None = None,
        sound: str = "piano",
    ) -> None:
        self.folder, self.every, self.settings = Path(folder), every, settings or {}
        self.sound = check_sound(sound)

    @rank_zero_only
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Model)
        epoch = trainer.current_epoch + 1
        if epoch % self.every:
            return
        folder = self.folder / f"epoch_{epoch:03d}"
        samples = pl_module.generate(**self.settings)
        files = write_files(pl_module.spec, samples, folder, sound=self.sound)
        if (filters_ND := pl_module.filters()) is not None:
            first_ND = stretched(filters_ND[:NUM_FILTERS])
            files.append(write_tiles(squared(first_ND), folder / "filters.png"))
        texts = text_rows(pl_module.spec, samples)
        log_media(trainer.loggers, MediaLog(epoch, trainer.global_step, files, texts))
