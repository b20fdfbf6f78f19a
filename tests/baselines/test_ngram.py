"""The n-gram baseline: probabilities by hand, and their sum of one."""

from __future__ import annotations

import numpy as np
import pytest

from musegen.baselines.ngram import NGram, best_ngram

# "a b a b a c" as 0 1 0 1 0 2
TRAIN = [[0, 1, 0, 1, 0, 2]]


def test_probabilities_by_hand() -> None:
    model = NGram(2, 0.5).fit(TRAIN)
    # Unigram of b: N(b) = 2 of 6, three different symbols: (2 − ½)/6 + ½·3/6·⅓ = ⅓.
    # Bigram b after a: N(a) = 3, followers b (2) and c (1): (2 − ½)/3 + ½·2/3·⅓ = 11/18.
    nll = model.nll([[0, 1]], choices=3)
    assert np.exp(-nll[0, 1]) == pytest.approx(1 / 3)
    assert np.exp(-nll[1, 1]) == pytest.approx(11 / 18)


def test_unseen_contexts_back_off_and_unseen_symbols_are_possible() -> None:
    model = NGram(2, 0.5).fit(TRAIN)
    nll = model.nll([[2, 1]], choices=4)  # nothing follows c in training
    assert nll[1, 1] == nll[0, 1]
    unseen = model.nll([[3]], choices=4)[1, 0]
    assert np.exp(-unseen) == pytest.approx(
        0.5 * (0.5 * 3 / 6 / 4)
    )  # at the start: one kind of symbol


def test_probabilities_of_all_symbols_sum_to_one() -> None:
    model = NGram(3, 0.7).fit(TRAIN)
    for context in ([], [0], [0, 1], [2], [1, 1]):
        total = sum(np.exp(-model.nll([[*context, x]], 3)[2, -1]) for x in range(3))
        assert total == pytest.approx(1)


@pytest.mark.parametrize("period", [1, 2])
def test_a_distribution_equals_the_probability_of_each_symbol(period: int) -> None:
    model = NGram(3, 0.7, period).fit(TRAIN)
    for context in ([], [0], [0, 1], [1, 0, 1]):
        expected = [np.exp(-model.nll([[*context, x]], 3)[2, -1]) for x in range(3)]
        assert model.distribution(context, 3) == pytest.approx(expected)


def test_contexts_include_the_position_in_the_period() -> None:
    # Alternating fields, 0 or 1 and then 2 or 3: order 1 is the frequency within the field.
    model = NGram(2, 0.5, period=2).fit([[0, 2, 0, 3, 1, 2]])
    nll = model.nll([[0, 3]], choices=2)
    # N(0) = 2 of 3, two symbols: (2 − ½)/3 + ½·2/3·½ = ⅔. N(3) = 1 of 3: (1 − ½)/3 + 1/6 = ⅓.
    assert np.exp(-nll[0]) == pytest.approx([2 / 3, 1 / 3])


def test_sequences_are_independent() -> None:
    model = NGram(3, 0.5, period=2).fit([[0, 2], [], [1, 3, 0]])
    rows = [[0, 3, 1], [1], [0, 2]]
    choices = [np.array([2, 4, 2]), np.array([2]), np.array([2, 4])]
    separate = [model.nll([row], [c]) for row, c in zip(rows, choices, strict=True)]
    np.testing.assert_array_equal(model.nll(rows, choices), np.hstack(separate))


def test_best_order_is_chosen_on_validation() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 3, 200).tolist()]
    cycle = [[0, 1, 2] * 60]
    assert best_ngram(noise, [rng.integers(0, 3, 200).tolist()], 3, 4)[1] == 1
    assert best_ngram(cycle, [[1, 2, 0] * 30], 3, 4)[1] >= 2
