"""The n-gram mixture: by hand, per label, and in checkpoints."""

import math

import pytest
import torch
import torch.nn.functional as F

from datamodules.names import Names
from musegen.codecs.chars import CharCodec
from musegen.errors import UserError
from musegen.models.char_rnn import CharRNN
from musegen.models.layers.ngram_mixture import DISCOUNT, TextNGram, contexts, contexts_after
from musegen.training.trainer import make_trainer

CODEC = CharCodec("abcdefgh", unknown=False, labels=("x", "y"))


def net(**settings):
    torch.manual_seed(0)
    return CharRNN(CODEC.spec, CODEC, hidden=5, **settings).eval()


def with_ngram():
    model = net(ngram_weight=0.25)
    model.ngram.fit([CODEC.encode("ab"), CODEC.encode("cd")], [0, 1])
    return model


def test_the_mixture_by_hand():
    ngram = TextNGram(0.25, 4)
    ngram.fit([[0, 3]], [0])
    # Unigrams: N = 2, two classes: (1 − d)/2 + d·¼ for 0 and for 3, d·¼ for the others. After
    # every start context, of length 1 to 5, the count of 0 is 1 of 1: (1 − d) + d · (shorter one).
    p = (1 - DISCOUNT) / 2 + DISCOUNT / 4
    for _ in range(5):
        p = (1 - DISCOUNT) + DISCOUNT * p
    log_p_NV = ngram.mixture(torch.zeros(2, 4), [(0,), (1,)])
    assert math.exp(log_p_NV[0, 0]) == pytest.approx(0.75 / 4 + 0.25 * p)
    torch.testing.assert_close(log_p_NV[1].exp(), torch.full((4,), 0.25))  # label 1 has no texts
    assert log_p_NV.exp().sum(1) == pytest.approx([1, 1])


def test_half_precision_is_mixed_in_float32():
    ngram, logits_NV = TextNGram(0.25, 4), torch.tensor([[0.0, 1.0, 2.0, 3.0]])
    of_half, of_float = (ngram.mixture(x, [(0,)]) for x in (logits_NV.bfloat16(), logits_NV))
    torch.testing.assert_close(of_half, of_float)


def test_contexts_are_the_label_and_the_last_five_classes():
    batch = CODEC.batch([CODEC.encode("abcdefgh"), CODEC.encode("a")], [1, 0])
    assert list(contexts(batch)) == [
        (1,), (1, 0), (1, 0, 1), (1, 0, 1, 2), (1, 0, 1, 2, 3), (1, 0, 1, 2, 3, 4),
        (1, 1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 6), (1, 3, 4, 5, 6, 7), (0,), (0, 0),
    ]  # fmt: skip
    batch.mask_BT[0, :6] = False  # inputs only, not predicted
    assert next(contexts(batch)) == (1, 1, 2, 3, 4, 5)
    drawn = [torch.tensor([k, k + 10]) for k in range(6)]
    assert list(contexts_after(drawn, [1, 0])) == [(1, 1, 2, 3, 4, 5), (0, 11, 12, 13, 14, 15)]
    assert list(contexts_after([], [1])) == [(1,)]


def test_training_texts_are_more_likely_under_their_label():
    plain, model = net(), with_ngram()
    rows = [CODEC.encode("ab")] * 2
    without, mixed = list(plain.read(rows, [0, 1])), list(model.read(rows, [0, 1]))
    assert mixed[0][0].sum() < without[0][0].sum()
    assert mixed[1][0].sum() > without[1][0].sum()


def test_the_training_loss_is_that_of_the_network_alone():
    batch = CODEC.batch([CODEC.encode("ab")], [0])
    assert torch.equal(with_ngram().losses(batch)["nll"], net().losses(batch)["nll"])


def test_generation_and_scores_use_the_same_mixture():
    model = with_ngram()
    text = model.generate(label="x", temperature=0.0, length=4)[0][1]
    batch = CODEC.batch([CODEC.encode(text)], [0])
    log_p_NV, x_N = model.predicted(batch)
    assert log_p_NV.argmax(1)[: len(text)].tolist() == x_N[: len(text)].tolist()
    assert F.cross_entropy(log_p_NV, x_N, reduction="none").tolist() == pytest.approx(
        next(model.read([CODEC.encode(text)], [0]))[0].tolist(), rel=1e-5
    )


def test_the_texts_are_in_the_state_dict(tmp_path):
    model, path = with_ngram(), tmp_path / "weights.pt"
    torch.save(model.state_dict(), path)
    loaded = net(ngram_weight=0.25)
    loaded.load_state_dict(torch.load(path, weights_only=True))
    assert loaded.ngram.texts == model.ngram.texts
    assert loaded.generate(n=5, seed=1) == model.generate(n=5, seed=1)


def test_fit_uses_the_training_names(tmp_path):
    for label, names in {"x": ["ab", "abc", "bac", "cab"], "y": ["fed", "def", "efd"]}.items():
        (tmp_path / f"{label}.txt").write_text("\n".join(names))
    data = Names(root=tmp_path)
    model = CharRNN(data.spec, data.codec, hidden=2, ngram_weight=0.5)
    make_trainer(gpus=0, max_epochs=1, logger=False, enable_checkpointing=False).fit(model, data)
    rows = [row.tolist() for row in data.coded("train")]
    assert model.ngram.texts == list(zip(data.labels["train"], rows, strict=True))


def test_texts_without_labels():
    codec = CharCodec("ab")
    model = CharRNN(codec.spec, codec, hidden=2, ngram_weight=0.9)
    model.ngram.fit([codec.encode("ab")], [0])
    assert model.generate(temperature=0.0) == ["ab"]


@pytest.mark.parametrize("weight", [-0.1, 1.0])
def test_weight_out_of_range(weight):
    with pytest.raises(UserError, match=f"ngram_weight={weight}"):
        net(ngram_weight=weight)
