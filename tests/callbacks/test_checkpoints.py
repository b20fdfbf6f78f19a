"""Best and last checkpoints: last is of the last epoch, whether it was the best or not."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from musegen.callbacks.checkpoints import Checkpoints
from musegen.contracts import FrameBatch, Frames
from musegen.models.rbm import RBM


class Scored(RBM):
    """An RBM whose validation score is given beforehand."""

    scores = (0.0,)

    def on_validation_epoch_end(self) -> None:
        self.log("score", self.scores[self.current_epoch])


@pytest.mark.parametrize(("scores", "best"), [((1.0, 2.0, 3.0), 2), ((3.0, 2.0, 1.0), 0)])
def test_last_is_of_the_last_epoch(tmp_path, scores: tuple[float, ...], best: int) -> None:
    loader = DataLoader(
        [torch.ones(4)] * 6, batch_size=2, collate_fn=lambda rows: FrameBatch(torch.stack(rows))
    )
    model = Scored(Frames(4), hidden=2, k=1)
    model.scores = scores
    model.on_fit_start = lambda: None
    keep = Checkpoints(
        dirpath=tmp_path, filename="best", monitor="score", mode="max", save_last=True,
        enable_version_counter=False,
    )  # fmt: skip
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, callbacks=[keep],
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(model, loader, loader)
    saved = {n: torch.load(tmp_path / f"{n}.ckpt", weights_only=True) for n in ("best", "last")}
    assert saved["best"]["epoch"] == best
    assert saved["last"]["epoch"] == 2
    assert torch.equal(saved["last"]["state_dict"]["W_DH"], model.W_DH)
    assert not list(tmp_path.glob("*.part"))
    assert keep.last_model_path == str(tmp_path / "last.ckpt")
