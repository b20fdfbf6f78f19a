"""TensorBoard event files."""

from __future__ import annotations

import wave
from pathlib import Path

import matplotlib.image
import numpy as np
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

from musegen.training.lightning_compat import purge_events_from
from musegen.training.loggers.media import MediaLog


class TensorBoard(TensorBoardLogger):
    """TensorBoard's event files in `folder/tensorboard`. It cannot show scores (.mid)."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="", version="tensorboard", default_hp_metric=False)

    def truncate(self, step: int, rows: int) -> None:
        purge_events_from(self, step)

    @rank_zero_only
    def log_media(self, media: MediaLog) -> None:
        board = self.experiment
        for path in media.with_suffix(".png"):
            picture_HWC = matplotlib.image.imread(path)[..., :3]
            tag = media.named(f"pictures/{path.stem}")
            board.add_image(tag, picture_HWC, media.step, dataformats="HWC")
        for path in media.with_suffix(".wav"):
            with wave.open(str(path)) as file:
                sound = np.frombuffer(file.readframes(file.getnframes()), "<i2")
                rate = file.getframerate()
            samples = torch.from_numpy(sound / np.float32(2**15))
            board.add_audio(media.named(f"audio/{path.stem}"), samples, media.step, rate)
        if media.texts:
            rows = [media.columns, ["---"] * len(media.columns), *media.texts]
            table = "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)
            board.add_text(media.named("texts"), table, media.step)
        board.flush()  # after training, Lightning does not flush


def _cell(text: str) -> str:
    """Text inside a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", "<br>")
