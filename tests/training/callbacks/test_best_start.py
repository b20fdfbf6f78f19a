"""The best of several starts: it is the one that counts farthest, by the seed."""

import pytest
import torch

from datamodules.grammar_strings import GrammarStrings
from musegen.errors import UserError
from musegen.models.char_rnn import CharRNN
from musegen.training.callbacks import best_start
from musegen.training.callbacks.best_start import BestStart
from musegen.training.optimizer import Optimizer
from musegen.training.trainer import make_trainer


def test_the_farthest_counter_is_kept(monkeypatch):
    far = iter([3, 7, 5])
    seen = []

    def capacity(net, grammar, up_to):
        seen.append({k: v.clone() for k, v in net.state_dict().items()})
        return next(far)

    monkeypatch.setattr(best_start, "capacity", capacity)
    data = GrammarStrings(train_size=20, batch_size=20, n_max=3, val_n=(1, 9))
    data.setup()
    model = CharRNN(data.spec, data.codec, cell="rnn", hidden=2)
    model.optimizer = Optimizer(lr=0.01)
    trainer = make_trainer(0, logger=False)
    trainer.datamodule = data
    BestStart(3, steps=2).on_fit_start(trainer, model)
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, seen[1][name])
    assert not torch.equal(seen[0]["out.weight"], seen[1]["out.weight"])


def test_refuses_no_tries():
    with pytest.raises(UserError, match="tries=0"):
        BestStart(tries=0)
