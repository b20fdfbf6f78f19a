"""n-gram baselines: by hand, mixed over labels, and as classifiers of generated names."""

import math

import numpy as np
import pytest
import torch

from musegen.baselines import by_spec, name_quality
from musegen.baselines.name_quality import LabelledNGram, ScoredName
from musegen.baselines.ngram import NGram
from musegen.metrics.chars import CharNLL


class Data:
    """Encoded texts of three classes; the last class is the end."""

    class spec:
        vocab_size = 3

    def __init__(self, **splits):
        self.splits = splits

    def coded(self, split):
        return [np.array(row) for row in self.splits[split]]


def test_a_bigram_predicts_a_deterministic_language():
    rows = [[0, 1, 2]] * 400
    metrics = by_spec.text_baselines(Data(train=rows, val=rows, test=rows))
    # The unigram is uniform over three symbols. A bigram is certain, except for the discount.
    assert metrics["ngram1_bpc"] == pytest.approx(math.log2(3))
    assert metrics["ngram_order"] >= 2
    assert metrics["ngram_bpc"] < 0.01


def test_the_mixture_by_hand():
    model = LabelledNGram(choices=2, discount=0.5).fit([[0], [0], [1], [1]], [0, 0, 1, 1])
    own = NGram(1, 0.5).fit([[0], [0]])
    assert np.exp(-own.nll([[0]], 2))[0, 0] == pytest.approx(0.875)  # (2 − ½ + ½·½) / 2
    # Of all labels: (2 − ½ + ½·2·½) / 4 = ½. The mixture is (0.875 + 0.5) / 2.
    assert np.exp(-model.nll([[0]], 0))[0, 0] == pytest.approx(0.6875)
    assert np.exp(-model.nll([[1]], 0))[0, 0] == pytest.approx(1 - 0.6875)


def test_validation_decides_the_mixture_weights():
    rows, labels = [[0, 0, 2]] * 20 + [[1, 1, 2]] * 20, [0] * 20 + [1] * 20
    model = LabelledNGram(3, 0.5).fit(rows, labels)
    nll = model.tune(rows[:1] + rows[-1:], [0, 1])
    assert (model.weight[0] == 1).all()
    assert nll[0] < model.tune(rows[:1] + rows[-1:], [1, 0])[0]
    assert (model.weight[0] == 0).all()
    for order in range(6):
        p = sum(np.exp(-model.nll([[0, x]], 0))[order, 1] for x in range(3))
        assert p == pytest.approx(1)


class FixedNames:
    """A model that generates the training name of label 0 for every label."""

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
    """Encoded labelled names."""

    def __init__(self, **splits):
        self.splits = splits
        self.labels = {s: labels for s, (_, labels) in splits.items()}

    def coded(self, split):
        return self.splits[split][0]


def test_metrics_of_generated_names():
    data = Coded(
        train=([[0, 0, 2], [1, 1, 1, 2]], [0, 1]),
        val=([[0, 0, 0, 2], [1, 1, 2]], [0, 1]),
        test=([[0, 2], [1, 2]], [0, 1]),
    )
    assert name_quality.generation_metrics(FixedNames(), data, 0.7) == {
        "novel": 0.5,  # a training name of label 0, but not of label 1
        "distinct": 2 / 100,
        "recognised": 0.5,
        "recognised_real": 1.0,
    }


def test_gain_and_its_standard_error():
    def scored(length, bits, ngram_bits):
        return ScoredName(0, length, bits * math.log(2), ngram_bits * math.log(2))

    metrics = name_quality.compare_to_ngram([scored(2, 4.0, 6.0), scored(2, 3.0, 3.0)])
    # A gain of 2 bits per 4 characters. The gains of the two names differ from it by 1 bit.
    assert metrics == pytest.approx(
        {"bpc": 7 / 4, "ngram_bpc": 9 / 4, "gain": 0.5, "gain_error": math.sqrt(2) / 4}
    )


def test_bits_and_perplexity_of_the_mean():
    metric = CharNLL()
    metric.update(torch.tensor([[1.0], [3.0]]), torch.tensor([[True], [False]]))
    metric.update(torch.tensor([[2.0], [2.0], [2.0]]), torch.tensor([[True]] * 3))
    metrics = {k: float(v) for k, v in metric.compute().items()}
    assert metrics == pytest.approx(
        {"nll": 2.0, "bpc": 2 / math.log(2), "perplexity": math.exp(2), "accuracy": 0.8}
    )
