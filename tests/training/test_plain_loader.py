"""Models in a plain Lightning Trainer with a plain DataLoader, without a datamodule."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from musegen.codecs.chars import CharCodec
from musegen.errors import UserError
from musegen.models.char_rnn import CharRNN
from musegen.models.rbm import RBM
from musegen.models.rnn_rbm import RNNRBM
from musegen.specs import FrameBatch, Frames, RollBatch, Rolls
from musegen.training.callbacks.best_start import BestStart
from musegen.training.callbacks.pretraining import Pretraining
from musegen.training.callbacks.rbm_likelihood import RBMLikelihood
from musegen.training.callbacks.rbm_pictures import RBMPictures

CODEC = CharCodec.of(["ab", "ba"])


def fit(model: pl.LightningModule, loader: DataLoader, *callbacks: pl.Callback) -> None:
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
    )  # fmt: skip
    trainer.fit(model, loader)


def frames() -> DataLoader:
    x_ND = torch.zeros(8, 4)
    x_ND[:, 0] = 1
    return DataLoader(list(x_ND), batch_size=4, collate_fn=lambda x: FrameBatch(torch.stack(x)))


def test_an_rbm_takes_the_means_of_a_plain_loader() -> None:
    model = RBM(Frames(4), hidden=2, k=1, visible_bias="log_odds")
    fit(model, frames())
    assert model.mean_D.tolist() == pytest.approx([8.5 / 9, 0.5 / 9, 0.5 / 9, 0.5 / 9])


def test_pretraining_reads_a_plain_loader() -> None:
    model = RNNRBM(Rolls(4), hidden=2, recurrent=2, k=1)
    before = model.W_DH.detach().clone()
    batch = RollBatch(torch.eye(4)[None], torch.ones(1, 4, dtype=torch.bool))
    loader = DataLoader([batch] * 2, batch_size=None)
    fit(model, loader, Pretraining(rbm_epochs=1, rnn_epochs=1, rbm_batch_size=4))
    assert not torch.equal(model.W_DH, before)


@pytest.mark.parametrize("callback", [None, BestStart, RBMLikelihood, RBMPictures])
def test_what_needs_a_datamodule_says_so_before_training(callback, tmp_path) -> None:
    if callback in (None, BestStart):
        model = CharRNN(CODEC.spec, CODEC, hidden=4, ngram_weight=0.0 if callback else 0.3)
    else:
        model = RBM(Frames(4), hidden=2, k=1)
    given = [tmp_path] if callback is RBMPictures else []
    message = "ngram_weight" if callback is None else callback.__name__
    with pytest.raises(UserError, match=rf"^{message}.* needs a datamodule: call trainer\.fit"):
        fit(model, frames(), *([callback(*given)] if callback else []))
