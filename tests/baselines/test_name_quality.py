"""n-grams as baselines: by hand, mixed over labels, as a judge of generated names."""

import math

import numpy as np
import pytest
import torch

from musegen.baselines import by_spec, name_quality
from musegen.baselines.name_quality import LabelledNGram, Read
from musegen.baselines.ngram import NGram
from musegen.metrics.chars import CharLikelihood


class Data:
    """Texts already in classes; three classes, the last one the end."""

    class spec:
        vocab_size = 3

    def __init__(self, **splits):
        self.splits = splits

    def coded(self, split):
        return [np.array(row) for row in self.splits[split]]


def test_a_deterministic_language_needs_two_symbols():
    rows = [[0, 1, 2]] * 400
    metrics = by_spec.text_baselines(Data(train=rows, val=rows, test=rows))
    # A unigram of three even symbols; a bigram knows all, up to the discounts.
    assert metrics["ngram1_bpc"] == pytest.approx(math.log2(3))
    assert metrics["ngram_order"] >= 2
    assert metrics["ngram_bpc"] < 0.01


def test_the_mixture_by_hand():
    model = LabelledNGram(choices=2, discount=0.5).fit([[0], [0], [1], [1]], [0, 0, 1, 1])
    own = NGram(1, 0.5).fit([[0], [0]])
    assert np.exp(-own.nats([[0]], 2))[0, 0] == pytest.approx(0.875)  # (2 − ½ + ½·½) / 2
    # Together: (2 − ½ + ½·2·½) / 4 = ½; by halves (0.875 + 0.5) / 2.
    assert np.exp(-model.nats([[0]], 0))[0, 0] == pytest.approx(0.6875)
    assert np.exp(-model.nats([[1]], 0))[0, 0] == pytest.approx(1 - 0.6875)


def test_validation_decides_how_much_the_others_say():
    rows, labels = [[0, 0, 2]] * 20 + [[1, 1, 2]] * 20, [0] * 20 + [1] * 20
    model = LabelledNGram(3, 0.5).fit(rows, labels)
    apart = model.tune(rows[:1] + rows[-1:], [0, 1])
    assert (model.share[0] == 1).all()
    assert apart[0] < model.tune(rows[:1] + rows[-1:], [1, 0])[0]
    assert (model.share[0] == 0).all()
    for order in range(6):
        p = sum(np.exp(-model.nats([[0, x]], 0))[order, 1] for x in range(3))
        assert p == pytest.approx(1)


class Parrot:
    """Writes names of one letter per label: label 0 what it learnt, label 1 label 0's."""

    class codec:
        labels = ("x", "y")
        size = 3

        @staticmethod
        def encode(text):
            return np.array([*map(int, text), 2])

    @staticmethod
    def generate(n, label, temperature):
        return [(label, "00")] * n


class Coded:
    """Labelled names already in classes."""

    def __init__(self, **splits):
        self.splits = splits
        self.labels = {s: labels for s, (_, labels) in splits.items()}

    def coded(self, split):
        return self.splits[split][0]


def test_generated_names_are_judged():
    data = Coded(
        train=([[0, 0, 2], [1, 1, 1, 2]], [0, 1]),
        val=([[0, 0, 0, 2], [1, 1, 2]], [0, 1]),
        test=([[0, 2], [1, 2]], [0, 1]),
    )
    assert name_quality.judged(Parrot(), data, 0.7) == {
        "novel": 0.5,  # label 0's are its training name, label 1's are not
        "distinct": 2 / 100,
        "recognised": 0.5,
        "recognised_real": 1.0,
    }


def test_how_far_ahead_and_how_sure():
    def read(length, bits, ngram_bpc):
        return Read(0, length, bits * math.log(2), ngram_bpc * math.log(2))

    metrics = name_quality.compared([read(2, 4.0, 6.0), read(2, 3.0, 3.0)])
    # Ahead by 2 bits of 4 characters; the two names lie 1 bit from that on either side.
    assert metrics == pytest.approx(
        {"bpc": 7 / 4, "ngram_bpc": 9 / 4, "ahead": 0.5, "ahead_error": math.sqrt(2) / 4}
    )


def test_bits_and_perplexity_are_of_the_mean():
    metric = CharLikelihood()
    metric.update(torch.tensor([[1.0], [3.0]]), torch.tensor([[True], [False]]))
    metric.update(torch.tensor([[2.0], [2.0], [2.0]]), torch.tensor([[True]] * 3))
    metrics = {k: float(v) for k, v in metric.compute().items()}
    assert metrics == pytest.approx(
        {"nll": 2.0, "bpc": 2 / math.log(2), "perplexity": math.exp(2), "accuracy": 0.8}
    )
