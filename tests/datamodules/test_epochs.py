"""Each epoch of a fit draws its own batches: Lightning must reach the batch sampler."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from torch.utils.data import Dataset

from datamodules.samplers import EpochBatchSampler, batch_loader
from musegen.models.rbm import RBM
from musegen.specs import FrameBatch, Frames


class Numbered(EpochBatchSampler[int]):
    def plan(self, epoch: int, rank: int, world: int) -> list[list[int]]:
        return [[epoch]]


class Noted(Dataset[FrameBatch]):
    def __init__(self) -> None:
        self.epochs: list[int] = []

    def __getitems__(self, keys: list[int]) -> FrameBatch:
        self.epochs += keys
        return FrameBatch(torch.ones(2, 4))


def test_a_fit_tells_the_sampler_each_epoch(tmp_path) -> None:
    rows = Noted()
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    model = RBM(Frames(4), hidden=2, k=1)
    model.on_fit_start = lambda: None  # it reads the first epoch once more
    trainer.fit(model, batch_loader(rows, Numbered(), num_workers=0))
    assert rows.epochs == [0, 1, 2]
