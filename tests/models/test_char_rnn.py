"""char_rnn: exact likelihoods, padding, conditioning, a net that counts by construction."""

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
    """One LSTM unit that adds 1 at the start and at each 0, and takes 1 at each 1.

    Weights of ±50 saturate the gates: i = f = 1, g = ±1; o = 1/2 after a 1, else 1. With n ones
    to come after a 1, c = 1 + n and h = tanh(c) / 2: 0.38 at the end, 0.48 and more before. The
    likeliest symbol is 0 at h > 0.7 (the start, every 0), else 1 at h > 0.43, else the end.
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
def test_nats_are_the_softmax_of_each_prefix(cell):
    model = net(cell=cell, layers=2, embedding=3)
    row = COURSE.encode("0110")
    ((nats_T, guess_T),) = model.read([row])
    for t, wanted in enumerate(row):
        prefix = torch.tensor([[3, *row[:t]]])
        p = model.out(model(prefix)[0][0, -1]).detach().softmax(-1)
        assert nats_T[t] == pytest.approx(-math.log(p[wanted]), rel=1e-5)
        assert guess_T[t] == p.argmax()


def test_elman_step_by_hand():
    model = net(cell="rnn", hidden=2, dtype="float64")
    w = {k: v.detach().numpy() for k, v in model.cells.named_parameters()}
    h = np.zeros(2)
    for x in (3, 0, 1):
        e = model.embed.weight[x].detach().numpy()
        read = w["weight_ih_l0"] @ e + w["bias_ih_l0"]
        h = np.tanh(read + w["weight_hh_l0"] @ h + w["bias_hh_l0"])
    np.testing.assert_allclose(model(torch.tensor([[3, 0, 1]]))[0][0, -1].detach(), h, rtol=1e-12)


def test_padding_is_never_counted():
    model = net()
    rows = [COURSE.encode(t) for t in ("01", "0011", "000111")]
    loss = model.losses(COURSE.batch(rows))["nll"]
    alone = [nats_T for row in rows for nats_T, _ in model.read([row])]
    assert float(loss) == pytest.approx(np.concatenate(alone).mean(), rel=1e-5)
    together = list(model.read(rows, batch_size=2))
    for a, (b, _) in zip(alone, together, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert model.num_predictions(COURSE.batch(rows)) == 3 + 5 + 7


def test_test_figures_do_not_depend_on_the_batches():
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
    nats = np.concatenate([nats_T for nats_T, _ in model.read(data.coded("train"))])
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(nats.mean(), rel=1e-5)


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


def test_a_net_that_counts_by_construction():
    model = counting_lstm()
    assert capacity(model, GRAMMARS["anbn"], 300) == 300
    (row,) = counted(model, GRAMMARS["anbn"], [3])
    # Nothing announces the first 1: the one position that differs, and no mistake.
    assert row == (3, "0001112", "0000112", 1, True)


def test_capacity_stops_at_the_first_mistake():
    model = counting_lstm()
    with torch.no_grad():
        model.cells.weight_ih_l0[2, 1] = -math.atanh(0.96)  # a 1 takes only 0.96
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


def test_generation_leaves_no_trace_and_repeats():
    codec = CharCodec("abcdef", labels=("Japan", "Peru"))
    model = net(codec, dropout=0.5).train()
    before = torch.get_rng_state()
    made = model.generate(n=4, seed=1)
    assert model.training
    assert torch.equal(before, torch.get_rng_state())
    assert made == model.generate(n=4, seed=1) != model.generate(n=4, seed=2)
    assert [label for label, _ in made] == ["Japan"] * 4 + ["Peru"] * 4
    assert [label for label, _ in model.generate(n=2, label="Peru")] == ["Peru"] * 2


def test_unknown_characters_are_never_written():
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
def test_generation_refuses(settings, problem):
    codec = CharCodec("ab", labels=("Japan", "Peru"))
    with pytest.raises(UserError, match=problem):
        net(codec).generate(**settings)


def test_constructor_refuses():
    with pytest.raises(UserError, match="hidden=0"):
        net(hidden=0)
    with pytest.raises(PairingError, match="reads Tokens or LabelledTokens"):
        CharRNN(Messages(3, 3, 3))
    assert net(CharCodec("ab", labels=("x",))).spec == LabelledTokens(4, 1)


def test_a_counters_beginning():
    plain, counter = net(layers=2), net(layers=2, counter=True)
    moved = torch.tensor([0.0] * 5 + [8.0] * 5 + [0.0] * 10)
    for layer in range(2):
        name = f"bias_ih_l{layer}"
        torch.testing.assert_close(getattr(counter.cells, name) - getattr(plain.cells, name), moved)
        assert not getattr(counter.cells, f"weight_hh_l{layer}").any()
    torch.testing.assert_close(counter.out.weight, 3 * plain.out.weight)
    with pytest.raises(UserError, match="cell=lstm"):
        net(cell="rnn", counter=True)


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_the_courses_sizes(cell):
    model = net(cell=cell, hidden=2 if cell == "rnn" else 1)
    width = model.embed.embedding_dim
    assert model.embed.weight.shape == (4, width)
    assert (model.out.out_features, width) == (3, model.cells.hidden_size)
