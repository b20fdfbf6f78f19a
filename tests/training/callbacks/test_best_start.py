"""Of several random starts, the one with the highest counting capacity is kept."""

import pytest
import torch

from datamodules.grammar_strings import GrammarStrings
from musegen.errors import UserError
from musegen.models.char_rnn import CharRNN
from musegen.training.callbacks import best_start
from musegen.training.callbacks.best_start import BestStart
from musegen.training.optimizer import Optimizer
from musegen.training.trainer import make_trainer


@pytest.mark.parametrize(("enough", "number"), [(None, 3), (8, 3), (7, 2), (5, 2)])
def test_the_start_with_the_highest_capacity_is_kept(monkeypatch, enough, number):
    capacities = iter([3, 7, 5])
    tried = []

    def capacity(net, grammar, up_to):
        tried.append({k: v.clone() for k, v in net.state_dict().items()})
        return next(capacities)

    monkeypatch.setattr(best_start, "capacity", capacity)
    data = GrammarStrings(train_size=20, batch_size=20, n_max=3, val_n=(1, 9))
    data.setup()
    model = CharRNN(data.spec, data.codec, cell="rnn", hidden=2)
    model.optimizer = Optimizer(lr=0.01)
    trainer = make_trainer(0, logger=False)
    trainer.datamodule = data
    BestStart(3, 2, enough).on_fit_start(trainer, model)
    assert len(tried) == number
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, tried[1][name])
    assert not torch.equal(tried[0]["out.weight"], tried[1]["out.weight"])


def test_a_learning_rate_of_the_tries_falls_to_0(monkeypatch):
    data = GrammarStrings(train_size=20, batch_size=20, n_max=3, val_n=(1, 9))
    data.setup()
    model = CharRNN(data.spec, data.codec, cell="rnn", hidden=2)
    model.optimizer = Optimizer(lr=0.01)
    rates = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam,
        "step",
        lambda self, *a: rates.append(self.param_groups[0]["lr"]) or step(self, *a),
    )
    BestStart(1, 4, lr=0.2)._train_new(model, list(data.train_dataloader()))
    BestStart(1, 2)._train_new(model, list(data.train_dataloader()))
    assert rates == pytest.approx([0.2, 0.2 * (1 + 0.5**0.5) / 2, 0.1, 0.2 * (1 - 0.5**0.5) / 2,
                                   0.01, 0.01])  # fmt: skip


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_tries_on_all_data(rank, two_processes, monkeypatch):
    data = GrammarStrings(train_size=20, batch_size=5, n_max=3, val_n=(1, 9))
    data.setup()
    texts = []

    def train(self, model, batches):
        texts.append(sum(len(batch.x_BL) for batch in batches))
        return model, 0.0

    monkeypatch.setattr(BestStart, "_train_new", train)
    monkeypatch.setattr(best_start, "capacity", lambda *_: 0)
    trainer = make_trainer(0, logger=False)
    trainer.datamodule = data
    two_processes(rank)
    BestStart(2).on_fit_start(trainer, CharRNN(data.spec, data.codec, cell="rnn", hidden=2))
    assert texts == [20, 20]


@pytest.mark.parametrize("name", ["tries", "steps", "enough"])
def test_settings_out_of_range(name):
    with pytest.raises(UserError, match=f"{name}=0: should be greater than or equal to 1"):
        BestStart(**{name: 0})
