"""The best of several starts: it is one of them, and the best one."""

from types import SimpleNamespace

import pytest
import torch

from datamodules.grammar import Counting
from musegen.callbacks.starts import BestStart
from musegen.contracts import UserError
from musegen.models.char_rnn import CharRNN
from musegen.optim import Optimizer


def started(tries):
    torch.manual_seed(4)
    data = Counting(train_size=20, batch_size=20, n_max=3, val_n=(1, 9))
    data.setup()
    model = CharRNN(data.spec, data.codec, cell="rnn", hidden=2)
    model.optimizer = Optimizer(lr=0.01)
    trainer = SimpleNamespace(ckpt_path=None, datamodule=data)
    BestStart(tries, steps=5, figure="nats").on_fit_start(trainer, model)
    metric = model.new_metric()
    for batch in data.val_dataloader():
        model.score(batch, metric, "val")
    return model, float(metric.compute()["nats"])


def test_more_tries_begin_better_and_by_the_seed():
    figures = [started(tries)[1] for tries in (1, 6)]
    assert figures[1] > figures[0]
    again, _ = started(6)
    for name, weights in started(6)[0].state_dict().items():
        assert torch.equal(weights, again.state_dict()[name])


def test_refuses_no_tries():
    with pytest.raises(UserError, match="tries=0"):
        BestStart(tries=0)
