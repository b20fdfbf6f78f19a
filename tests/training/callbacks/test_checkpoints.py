"""The checkpoint of the best epoch, the last checkpoint, and both in a moved run folder."""

from __future__ import annotations

import shutil

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import Dataset

from datamodules.frames import RowSampler
from datamodules.samplers import BatchLoader, batch_loader
from musegen.errors import UserError
from musegen.models.rbm import RBM
from musegen.specs import FrameBatch, Frames
from musegen.training.callbacks.checkpoints import Best, Resumable
from musegen.training.trainer import make_trainer


class Scored(RBM):
    """An RBM with given validation scores."""

    scores = (0.0,)

    def on_fit_start(self) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        self.log("score", self.scores[self.current_epoch])


class Ones(Dataset[FrameBatch]):
    def __getitems__(self, rows) -> FrameBatch:
        return FrameBatch(torch.ones(len(rows[0].indices), 4))


def loader(batch_size: int = 2) -> BatchLoader:
    return batch_loader(Ones(), RowSampler(6, batch_size, 1, training=True, shuffle=True), 0)


def fitted(
    folder, scores, epochs: int = 3, resume: bool = False, batch_size: int = 2, **settings
) -> pl.Trainer:
    torch.manual_seed(0)
    model = Scored(Frames(4), hidden=2, k=1)
    model.scores = scores
    trainer = make_trainer(
        0, max_epochs=epochs, logger=False, num_sanity_val_steps=0,
        callbacks=[Best(folder, "score", "max"), Resumable(folder, **settings)],
    )  # fmt: skip
    path = folder / "last.ckpt" if resume else None
    trainer.fit(model, loader(batch_size), loader(), ckpt_path=path, weights_only=True)
    return trainer


@pytest.mark.parametrize(("scores", "best"), [((1.0, 2.0, 3.0), 2), ((3.0, 2.0, 1.0), 0)])
def test_best_and_last_are_of_the_right_epochs(
    tmp_path, scores: tuple[float, ...], best: int
) -> None:
    model = fitted(tmp_path, scores).lightning_module
    saved = {n: torch.load(tmp_path / f"{n}.ckpt", weights_only=True) for n in ("best", "last")}
    assert saved["best"]["epoch"] == best
    assert torch.equal(saved["last"]["state_dict"]["W_DH"], model.W_DH)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]
    place = saved["last"]["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    assert [(p["epoch"], p["given"], p["world"]) for p in place] == [(3, 0, 1)]


def test_unfinished_files_of_a_killed_process_are_deleted(tmp_path) -> None:
    (tmp_path / "last.ckpt.123.part").write_bytes(b"half")
    fitted(tmp_path, (1.0, 2.0), epochs=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_moved_run_keeps_its_best_score(tmp_path) -> None:
    fitted(tmp_path / "a", (3.0, 1.0), epochs=2)
    shutil.move(tmp_path / "a", tmp_path / "b")
    before = (tmp_path / "b" / "best.ckpt").read_bytes()
    best = fitted(tmp_path / "b", (3.0, 1.0, 2.0), resume=True).checkpoint_callback
    assert float(best.best_model_score) == 3.0
    assert best.best_model_path == str(tmp_path / "b" / "best.ckpt")
    assert (tmp_path / "b" / "best.ckpt").read_bytes() == before


def test_another_batch_size_is_refused_in_the_middle_of_an_epoch(tmp_path, monkeypatch) -> None:
    def stop_in_epoch_2(self, trainer, *_) -> None:
        if trainer.global_step == 4:
            self._save(trainer)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Resumable, "on_train_batch_start", stop_in_epoch_2)
        with pytest.raises(SystemExit):
            fitted(tmp_path, (0, 0, 0))
    with pytest.raises(UserError, match=r"batch_size=3 \(was 2\)"):
        fitted(tmp_path, (0, 0, 0), resume=True, batch_size=3)
    assert fitted(tmp_path, (0, 0, 0), resume=True).global_step == 9


def test_the_last_checkpoint_is_written_at_intervals(tmp_path, monkeypatch) -> None:
    saved = []
    monkeypatch.setattr(
        pl.Trainer, "save_checkpoint",
        lambda self, path, *_: saved.append(self.global_step) if path.name == "last.ckpt" else None,
    )  # fmt: skip
    monkeypatch.setattr(Best, "_save_checkpoint", lambda *_: None)
    fitted(tmp_path, (0, 0, 0), minutes=None, steps=4)
    assert saved == [4, 8, 9]
    saved.clear()
    fitted(tmp_path, (0, 0, 0))
    assert saved == [9]
    saved.clear()
    fitted(tmp_path, (0, 0, 0), minutes=1e-9)
    assert saved == [*range(9), 9]


@pytest.mark.parametrize("wrong", [{"minutes": 0}, {"minutes": float("nan")}, {"steps": 0}])
def test_intervals_must_be_positive(tmp_path, wrong: dict) -> None:
    with pytest.raises(UserError, match=f"{next(iter(wrong))}=.*: should be "):
        Resumable(tmp_path, **wrong)
