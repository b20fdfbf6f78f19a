"""Lightning sets the epoch of the batch sampler, so that each epoch has its own batches."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import Dataset

from datamodules.samplers import EpochBatchSampler, batch_loader
from musegen.models.rbm import RBM
from musegen.specs import FrameBatch, Frames


class EpochAsKey(EpochBatchSampler[int]):
    def plan(self, epoch: int, rank: int, world: int) -> list[list[int]]:
        return [[epoch]]


class KeyRecorder(Dataset[FrameBatch]):
    def __init__(self) -> None:
        self.keys: list[int] = []

    def __getitems__(self, keys: list[int]) -> FrameBatch:
        self.keys += keys
        return FrameBatch(torch.ones(2, 4))


@pytest.mark.parametrize(("overfit", "epochs"), [(0, [0, 1, 2]), (1, [0, 0, 0])])
def test_each_epoch_has_its_batches_unless_overfitting(tmp_path, overfit, epochs) -> None:
    dataset = KeyRecorder()
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        overfit_batches=overfit,
    )  # fmt: skip
    model = RBM(Frames(4), hidden=2, k=1)
    model.on_fit_start = lambda: None  # it would read the first epoch once more
    trainer.fit(model, batch_loader(dataset, EpochAsKey(), num_workers=0))
    assert dataset.keys == epochs
