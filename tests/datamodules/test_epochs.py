"""Lightning sets the epoch of the batch sampler, so that each epoch has its own batches."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import Dataset

from datamodules.char_data import TextSampler
from datamodules.frames import RowSampler
from datamodules.message_rows import MessageStreamSampler, MessageWindowSampler
from datamodules.piano_rolls import ChunkSampler
from datamodules.samplers import EpochBatchSampler, batch_loader
from datamodules.text_file import TextWindowSampler
from musegen.errors import UserError
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


def in_epoch(sampler: EpochBatchSampler) -> dict:
    """The state after the first batch of epoch 1."""
    sampler.set_epoch(1)
    sampler.given = 1
    return sampler.state_dict()


def chunks(chunk_length: int | None, shift: int = 0) -> ChunkSampler:
    return ChunkSampler([30, 40], chunk_length, 2, 1, np.full((2, 2), shift))


CHANGES = [
    (lambda n: RowSampler(40, n, 1, True, True), 4, 5, r"batch_size=5 \(was 4\)"),
    (lambda n: RowSampler(40, 4, n, True, True), 1, 2, r"seed=2 \(was 1\)"),
    (lambda n: RowSampler(n, 4, 1, True, True), 40, 39, r"n=39 \(was 40\)"),
    (chunks, 5, None, r"chunk_length=None \(was 5\)"),
    (lambda n: chunks(5, n), 0, 9, "the data or their settings"),
    (lambda n: MessageWindowSampler([30, 40], n, n, 2, 1, True), 5, 4, r"window=4 \(was 5\)"),
    (lambda n: MessageStreamSampler([30, 40, 50], 5, n, 1, True), 1, 2, r"batch_size=2 \(was 1\)"),
    (lambda n: TextSampler([3] * n, 2, 1, True), 9, 8, "the data or their settings"),
    (lambda n: TextWindowSampler(90, n, 2, 1, True), 5, 6, r"window=6 \(was 5\)"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "before", "now", "message"), CHANGES)
def test_another_plan_is_refused_within_an_epoch(make, before, now, message) -> None:
    state = in_epoch(make(before))
    same, changed = make(before), make(now)
    same.load_state_dict(state)
    same_plan = make(before).plan(1, 0, 1)
    assert [repr(batch) for batch in same] == [repr(batch) for batch in same_plan[1:]]
    with pytest.raises(UserError, match=message):
        changed.load_state_dict(state)
    changed.load_state_dict(state | {"given": 0})  # between two epochs the batches may change
    assert len(list(changed)) == len(changed.plan(1, 0, 1))
