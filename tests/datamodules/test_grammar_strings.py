"""data=anbn: its distribution, its splits, the end of an epoch."""

import pytest
import pytorch_lightning as pl

from datamodules.grammar_strings import GrammarStrings
from musegen.errors import UserError
from musegen.models.char_rnn import CharRNN
from musegen.specs import Tokens
from musegen.training.trainer import make_trainer


def sizes(texts):
    return [len(t) // 2 for t in texts]


def test_many_small_and_a_few_large():
    data = GrammarStrings(train_size=4000)
    assert data.spec == Tokens(3)  # known before setup
    data.setup()
    n = sizes(data.texts["train"])
    assert all(t == "0" * k + "1" * k for t, k in zip(data.texts["train"], n, strict=True))
    share = [n.count(k) / len(n) for k in range(1, 22)]
    weights = [10, 6, 4, 3] + [1] * 16 + [0]
    assert share == pytest.approx([w / sum(weights) for w in weights], abs=0.02)
    assert sizes(data.texts["val"]) == list(range(1, 31))


def test_settings_of_the_distribution():
    data = GrammarStrings(n_max=3, weights=(0.0, 1.0), train_size=50, val_n=(4, 5), test_n=(2, 2))
    data.setup()
    assert set(sizes(data.texts["train"])) == {2, 3}
    assert (sizes(data.texts["val"]), data.texts["test"]) == ([4, 5], ["0011"])


def test_brackets_have_several_strings_of_a_size():
    data = GrammarStrings(grammar="dyck2", val_n=(3, 3), copies=10)
    data.setup()
    assert len(data.texts["val"]) == 10
    assert len(set(data.texts["val"])) > 3


def test_an_epoch_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        data = GrammarStrings(train_size=70, batch_size=8, seed=seed)
        data.setup()
        loader = data.train_dataloader()
        loader.batch_sampler.set_epoch(epoch)
        return [b.x_BL.tolist() for b in loader]

    assert order(1, 3) == order(1, 3)
    assert order(1, 3) != order(1, 4)
    assert len(order(1, 0)) == 9


def test_the_curriculum_lengthens_the_strings():
    data = GrammarStrings(n_max=20, weights=(1.0,), curriculum=8, first_n=4, train_size=500)
    data.setup()
    loader = data.train_dataloader()

    def longest(epoch):
        loader.batch_sampler.set_epoch(epoch)
        batches = [b.mask_BT for b in loader]
        assert sum(len(m) for m in batches) == 500
        return max(int(m.sum(1).max()) // 2 for m in batches)

    assert [longest(e) for e in (0, 1, 4, 7, 8, 30)] == [4, 6, 12, 18, 20, 20]


def test_the_trainer_tells_the_epochs():
    data = GrammarStrings(curriculum=2, first_n=4, weights=(1.0,), train_size=50, batch_size=50)
    data.setup()
    model = CharRNN(data.spec, data.codec, cell="rnn", hidden=2)
    longest = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            longest.append(int(batch.mask_BT.sum(1).max()) // 2)

    make_trainer(
        gpus=0, max_epochs=4, logger=False, enable_checkpointing=False, callbacks=[Watch()],
        limit_val_batches=0,
    ).fit(model, datamodule=data)  # fmt: skip
    assert longest == [4, 12, 20, 20]


@pytest.mark.parametrize(
    "settings",
    [{"n_max": 0}, {"weights": ()}, {"weights": (0.0,)}, {"weights": (-1.0, 2.0)},
     {"val_n": (5, 4)}, {"test_n": (0, 4)}, {"batch_size": 0}, {"curriculum": -1}],
)  # fmt: skip
def test_impossible_settings(settings):
    with pytest.raises(UserError, match=r"data[:.]"):
        GrammarStrings(**settings)
