"""The lines printed during training: one per epoch, with the score and the time left."""

from __future__ import annotations

import re

import pytest
import pytorch_lightning as pl

from datamodules.grammar_strings import GrammarStrings
from musegen.models.char_rnn import CharRNN
from musegen.runtime import progress
from musegen.training.callbacks.training_progress import TrainingProgress


class Breaks(pl.Callback):
    def on_train_batch_end(self, trainer, *_: object) -> None:
        if trainer.current_epoch == 1:
            raise ZeroDivisionError


def fit(*more: pl.Callback, val_n: tuple[int, int] = (1, 3)) -> None:
    data = GrammarStrings(train_size=20, batch_size=10, n_max=3, val_n=val_n)
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=2, callbacks=[TrainingProgress(), *more], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    model = CharRNN(data.spec, data.codec, cell="rnn", hidden=2)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)


def test_each_epoch_prints_a_line(capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress.Work, "left", lambda self: "0:07 left" * (self.done < self.total))
    fit()
    metrics = r"train/loss \d+\.\d{4}  val/nll \d+\.\d{4}  \d+\.\d s"
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"epoch 1/2  {metrics}  \d+:\d\d left", first)
    assert re.fullmatch(rf"epoch 2/2  {metrics}", second)  # nothing is left


def test_long_epochs_print_more_lines(capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress.Lines, "patience", 0.0)
    fit(val_n=(1, 40))
    lines = capsys.readouterr().err.splitlines()
    for start in ("validating  1/4 batches", "epoch 1/2  1/4 updates", "testing  1/"):
        assert any(line.startswith(start) for line in lines), start
    assert not any("4/4" in line for line in lines)  # finished work prints no line


def test_a_failed_training_closes_its_bars(monkeypatch) -> None:
    closed = []
    monkeypatch.setattr(progress.Lines, "close", lambda self: closed.append(self.what))
    with pytest.raises(ZeroDivisionError):
        fit(Breaks())
    assert "epoch 2/2" in closed
