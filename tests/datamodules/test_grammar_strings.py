"""data=anbn: the distribution of n, the splits, the curriculum, and settings out of range."""

import pytest
import pytorch_lightning as pl

from datamodules.grammar_strings import GrammarStrings
from musegen.errors import UserError
from musegen.models.char_rnn import CharRNN
from musegen.specs import Tokens
from musegen.training.trainer import make_trainer


def sizes(texts):
    return [len(t) // 2 for t in texts]


def test_most_strings_are_short():
    data = GrammarStrings(train_size=4000)
    assert data.spec == Tokens(3)  # setup() is not needed for it
    data.setup()
    n = sizes(data.texts["train"])
    assert all(t == "0" * k + "1" * k for t, k in zip(data.texts["train"], n, strict=True))
    fractions = [n.count(k) / len(n) for k in range(1, 22)]
    weights = [10, 6, 4, 3] + [1] * 16 + [0]
    assert fractions == pytest.approx([w / sum(weights) for w in weights], abs=0.02)
    assert sizes(data.texts["val"]) == list(range(1, 31))


def test_weights_and_ranges_of_n():
    data = GrammarStrings(n_max=3, weights=(0.0, 1.0), train_size=50, val_n=(4, 5), test_n=(2, 2))
    data.setup()
    assert set(sizes(data.texts["train"])) == {2, 3}
    assert (sizes(data.texts["val"]), data.texts["test"]) == ([4, 5], ["0011"])


def test_brackets_have_several_strings_for_one_n():
    data = GrammarStrings(grammar="dyck2", val_n=(3, 3), copies=10)
    data.setup()
    assert len(data.texts["val"]) == 10
    assert len(set(data.texts["val"])) > 3


def test_batches_depend_on_seed_and_epoch_only():
    def order(seed, epoch):
        data = GrammarStrings(train_size=70, batch_size=8, seed=seed)
        data.setup()
        loader = data.train_dataloader()
        loader.batch_sampler.set_epoch(epoch)
        return [b.x_BL.tolist() for b in loader]

    assert order(1, 3) == order(1, 3)
    assert order(1, 3) != order(1, 4)
    assert len(order(1, 0)) == 9


def test_curriculum_makes_strings_longer():
    data = GrammarStrings(n_max=20, weights=(1.0,), curriculum=8, first_n=4, train_size=500)
    data.setup()
    loader = data.train_dataloader()

    def longest(epoch):
        loader.batch_sampler.set_epoch(epoch)
        batches = [b.mask_BT for b in loader]
        assert sum(len(m) for m in batches) == 500
        return max(int(m.sum(1).max()) // 2 for m in batches)

    assert [longest(e) for e in (0, 1, 4, 7, 8, 30)] == [4, 6, 12, 18, 20, 20]


def test_curriculum_follows_the_epochs_of_the_trainer():
    data = GrammarStrings(curriculum=2, first_n=4, weights=(1.0,), train_size=50, batch_size=50)
    data.setup()
    model = CharRNN(data.spec, data.codec, cell="rnn", hidden=2)
    longest = []

    class RecordLongest(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            longest.append(int(batch.mask_BT.sum(1).max()) // 2)

    make_trainer(
        gpus=0, max_epochs=4, logger=False, enable_checkpointing=False, callbacks=[RecordLongest()],
        limit_val_batches=0,
    ).fit(model, datamodule=data)  # fmt: skip
    assert longest == [4, 12, 20, 20]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_max": 0}, "n_max=0: should be greater than or equal to 1"),
        ({"n_max": True}, "n_max=True: should be a number"),
        ({"weights": ()}, r"data.weights=\[\]: one of the first 20 must be above 0"),
        ({"weights": (0.0, 0.0, 1.0), "n_max": 2}, "one of the first 2 must be above 0"),
        ({"weights": (-1.0, 2.0)}, "weights=.*: should be greater than or equal to 0"),
        ({"val_n": (5, 4)}, r"data.val_n=\[5, 4\]: the first n is above the last"),
        ({"test_n": (0, 4)}, "test_n=.*: should be greater than or equal to 1"),
        ({"batch_size": 0}, "batch_size=0: should be greater than or equal to 1"),
        ({"curriculum": -1}, "curriculum=-1: should be greater than or equal to 0"),
        ({"seed": -1}, "seed=-1: should be greater than or equal to 0"),
        ({"grammar": "abc"}, "grammar=abc: should be 'anbn', 'anbncn', 'dyck1' or 'dyck2'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        GrammarStrings(**settings)
