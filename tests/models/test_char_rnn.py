"""char_rnn: exact likelihoods, padding, labels, a network that counts by construction."""

import math

import numpy as np
import pytest
import torch

from datamodules.grammar_strings import GrammarStrings
from musegen.codecs.chars import CharCodec
from musegen.codecs.grammars import GRAMMARS
from musegen.errors import PairingError, UserError
from musegen.metrics.capacity import capacity, counted
from musegen.models.char_rnn import CharRNN
from musegen.specs import LabelledTokens, Messages
from musegen.training.optimizer import Optimizer
from musegen.training.trainer import make_trainer

COURSE = CharCodec("01", unknown=False)


def net(codec=COURSE, **settings):
    torch.manual_seed(0)
    return CharRNN(codec.spec, codec, **{"hidden": 5, **settings}).eval()


def counting_lstm():
    """One LSTM unit that adds 1 at the start and at each 0, and subtracts 1 at each 1.

    Weights of ±50 saturate the gates: i = f = 1, g = ±1; o = 1/2 after a 1, otherwise 1. After a 1
    with n more ones to follow, c = 1 + n and h = tanh(c) / 2: 0.38 for n = 0, at least 0.48 for
    n > 0. The most likely symbol is 0 for h > 0.7 (after the start and every 0), 1 for h > 0.43,
    and the end otherwise.
    """
    model = CharRNN(COURSE.spec, COURSE, cell="lstm", hidden=1, embedding=3, dtype="float64")
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
        for column, symbol in enumerate((0, 1, COURSE.start_class)):
            model.embed.weight[symbol, column] = 1.0
        i, f, g, o = range(4)
        model.cells.weight_ih_l0[i] = model.cells.weight_ih_l0[f] = 50.0
        model.cells.weight_ih_l0[g] = torch.tensor([50.0, -50.0, 50.0])
        model.cells.weight_ih_l0[o] = torch.tensor([50.0, 0.0, 50.0])
        model.out.weight[:, 0] = torch.tensor([200.0, 100.0, 0.0])
        model.out.bias[:] = torch.tensor([-113.0, -43.0, 0.0])
    return model.eval()


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_nats_equal_the_softmax_after_each_prefix(cell):
    model = net(cell=cell, layers=2, embedding=3)
    row = COURSE.encode("0110")
    ((nll_T, guess_T),) = model.read([row])
    for t, target in enumerate(row):
        prefix = torch.tensor([[3, *row[:t]]])
        p = model.out(model(prefix)[0][0, -1]).detach().softmax(-1)
        assert nll_T[t] == pytest.approx(-math.log(p[target]), rel=1e-5)
        assert guess_T[t] == p.argmax()


def test_elman_step_by_hand():
    model = net(cell="rnn", hidden=2, dtype="float64")
    w = {k: v.detach().numpy() for k, v in model.cells.named_parameters()}
    h = np.zeros(2)
    for x in (3, 0, 1):
        e = model.embed.weight[x].detach().numpy()
        from_input = w["weight_ih_l0"] @ e + w["bias_ih_l0"]
        h = np.tanh(from_input + w["weight_hh_l0"] @ h + w["bias_hh_l0"])
    np.testing.assert_allclose(model(torch.tensor([[3, 0, 1]]))[0][0, -1].detach(), h, rtol=1e-12)


def test_padding_is_not_counted():
    model = net()
    rows = [COURSE.encode(t) for t in ("01", "0011", "000111")]
    loss = model.losses(COURSE.batch(rows))["nll"]
    one_by_one = [nll_T for row in rows for nll_T, _ in model.read([row])]
    assert float(loss) == pytest.approx(np.concatenate(one_by_one).mean(), rel=1e-5)
    batched = list(model.read(rows, batch_size=2))
    for a, (b, _) in zip(one_by_one, batched, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert model.num_predictions(COURSE.batch(rows)) == 3 + 5 + 7


def test_metrics_do_not_depend_on_the_batch_size():
    model = net()
    rows = [COURSE.encode("01" * k) for k in range(1, 8)]
    metrics = []
    for size in (2, 7):
        metric = model.new_metric()
        for b in range(0, 7, size):
            model.score(COURSE.batch(rows[b : b + size]), metric, "test")
        metrics.append({k: float(v) for k, v in metric.compute().items()})
    assert metrics[0] == pytest.approx(metrics[1], rel=1e-6)
    assert metrics[0]["bpc"] == pytest.approx(metrics[0]["nll"] / math.log(2))
    assert metrics[0]["perplexity"] == pytest.approx(math.exp(metrics[0]["nll"]))


def test_the_logged_loss_is_the_mean_over_the_epochs_predictions():
    data = GrammarStrings(train_size=7, batch_size=3)
    model = net()
    model.optimizer = Optimizer("sgd", lr=1e-12)
    trainer = make_trainer(gpus=0, max_epochs=2, logger=False, enable_checkpointing=False)
    trainer.fit(model, datamodule=data)
    nll = np.concatenate([nll_T for nll_T, _ in model.read(data.coded("train"))])
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(nll.mean(), rel=1e-5)


def test_the_label_is_added_at_every_step():
    codec = CharCodec("ab", labels=("x", "y"))
    model = net(codec, cell="rnn")
    batch = codec.batch([codec.encode("ab")] * 2, [0, 1])
    plain = CharRNN(codec.spec, codec, cell="rnn", hidden=5)
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        plain.embed.weight += model.embed_label.weight[1]
        plain.embed_label.weight.zero_()
    torch.testing.assert_close(
        model.logits(batch)[0][3:], plain.logits(batch)[0][3:], rtol=1e-5, atol=1e-6
    )
    assert not torch.allclose(model.logits(batch)[0][:3], model.logits(batch)[0][3:])


def test_a_network_that_counts_by_construction():
    model = counting_lstm()
    assert capacity(model, GRAMMARS["anbn"], 300) == 300
    (row,) = counted(model, GRAMMARS["anbn"], [3])
    # The first 1 cannot be predicted: one position differs, and the string is right.
    assert row == (3, "0001112", "0000112", 1, True)


def test_capacity_stops_at_the_first_error():
    model = counting_lstm()
    with torch.no_grad():
        model.cells.weight_ih_l0[2, 1] = -math.atanh(0.96)  # a 1 subtracts only 0.96
    # At the end c = 1 + 0.04 n, and tanh(c) / 2 < 0.43 only for n < 7.3.
    assert capacity(model, GRAMMARS["anbn"], 100, stride=5) == 7
    rows = list(counted(model, GRAMMARS["anbn"], [7, 8]))
    assert [r.right for r in rows] == [True, False]
    assert rows[1].predicted[-1] == "1"


def test_generation_in_one_batch():
    model = counting_lstm()
    with torch.no_grad():
        model.out.bias[2] = 1000.0
    assert model.generate(n=3) == ["", "", ""]
    with torch.no_grad():
        model.out.bias[:] = torch.tensor([1000.0, 0.0, 0.0])
    assert model.generate(n=2, length=7) == ["0" * 7] * 2


def test_generation_depends_on_its_seed_alone():
    codec = CharCodec("abcdef", labels=("Japan", "Peru"))
    model = net(codec, dropout=0.5).train()
    before = torch.get_rng_state()
    samples = model.generate(n=4, seed=1)
    assert model.training
    assert torch.equal(before, torch.get_rng_state())
    assert samples == model.generate(n=4, seed=1) != model.generate(n=4, seed=2)
    assert [label for label, _ in samples] == ["Japan"] * 4 + ["Peru"] * 4
    assert [label for label, _ in model.generate(n=2, label="Peru")] == ["Peru"] * 2


def test_unknown_characters_are_never_generated():
    codec = CharCodec("a")
    model = net(codec)
    with torch.no_grad():
        model.out.bias[codec.unknown_class] = 100.0
    assert set("".join(model.generate(n=50, length=20))) <= {"a"}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [({"n": 0}, "n=0"), ({"length": 0}, "length=0"), ({"label": "Jpan"}, "did you mean Japan"),
     ({"temperature": -1.0}, "temperature")],
)  # fmt: skip
def test_generation_settings_out_of_range(settings, problem):
    codec = CharCodec("ab", labels=("Japan", "Peru"))
    with pytest.raises(UserError, match=problem):
        net(codec).generate(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"hidden": 0}, "hidden=0: should be greater than or equal to 1"), ({"layers": 0}, "layers=0"),
     ({"embedding": 0}, "embedding=0"), ({"dropout": 1.0}, "dropout=1.0: should be less"),
     ({"hidden": True}, "hidden=True"), ({"cell": "tree"}, "cell=tree")],
)  # fmt: skip
def test_settings_out_of_range(settings, message):
    with pytest.raises(UserError, match=message):
        net(**settings)


def test_other_data_is_refused():
    with pytest.raises(PairingError, match="reads Tokens or LabelledTokens"):
        CharRNN(Messages(3, 3, 3))
    assert net(CharCodec("ab", labels=("x",))).spec == LabelledTokens(4, 1)


def test_initialisation_for_counting():
    plain, counter = net(layers=2), net(layers=2, counter=True)
    difference = torch.tensor([0.0] * 5 + [8.0] * 5 + [0.0] * 10)
    for layer in range(2):
        name = f"bias_ih_l{layer}"
        torch.testing.assert_close(
            getattr(counter.cells, name) - getattr(plain.cells, name), difference
        )
        assert not getattr(counter.cells, f"weight_hh_l{layer}").any()
    torch.testing.assert_close(counter.out.weight, 3 * plain.out.weight)
    with pytest.raises(UserError, match="counter=true needs an LSTM"):
        net(cell="rnn", counter=True)


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_sizes_of_the_course(cell):
    model = net(cell=cell, hidden=2 if cell == "rnn" else 1)
    width = model.embed.embedding_dim
    assert model.embed.weight.shape == (4, width)
    assert (model.out.out_features, width) == (3, model.cells.hidden_size)
