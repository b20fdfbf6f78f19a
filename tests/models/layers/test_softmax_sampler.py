"""Sampling: frequencies compared with the softmax, truncation by hand, wrong settings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from musegen.errors import UserError
from musegen.models.layers.sampling_kernels import draw_rows, keep_largest
from musegen.models.layers.softmax_sampler import Sampler

LOGITS = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))


def frequencies(sampler: Sampler, n: int = 40_000) -> torch.Tensor:
    drawn = sampler(LOGITS.expand(n, -1), torch.Generator().manual_seed(1))
    return torch.bincount(drawn, minlength=4) / n


def test_draws_follow_the_softmax() -> None:
    torch.testing.assert_close(frequencies(Sampler()), LOGITS.exp(), atol=0.01, rtol=0)


def test_low_and_zero_temperature() -> None:
    squared = LOGITS.exp() ** 2
    expected = squared / squared.sum()
    torch.testing.assert_close(frequencies(Sampler(temperature=0.5)), expected, atol=0.01, rtol=0)
    assert frequencies(Sampler(temperature=0)).tolist() == [1, 0, 0, 0]


def test_the_inverse_of_the_distribution_by_hand() -> None:
    u_BU = np.array([[0.0], [0.499], [0.501], [0.799], [0.801], [0.949], [0.951], [1 - 1e-16]])
    drawn_B = np.empty(8, np.int64)
    draw_rows(LOGITS.repeat(8, 1).numpy(), u_BU, 1.0, 0, 1.0, drawn_B)
    assert drawn_B.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_impossible_classes_are_never_drawn() -> None:
    z_BV = torch.tensor([-torch.inf, 0.0, -torch.inf]).repeat(50, 1)
    for settings in ({}, {"top_k": 2}, {"top_p": 0.5}, {"temperature": 0.1}):
        assert Sampler(**settings)(z_BV, torch.Generator().manual_seed(0)).unique().tolist() == [1]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"top_k": 1}, [1, 0, 0, 0]),
        ({"top_k": 2}, [0.625, 0.375, 0, 0]),
        ({"top_k": 9}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_p": 0.5}, [1, 0, 0, 0]),
        ({"top_p": 0.51}, [0.625, 0.375, 0, 0]),
        ({"top_p": 1.0}, [0.5, 0.3, 0.15, 0.05]),
        ({"top_p": 1e-9}, [1, 0, 0, 0]),
    ],
)
def test_truncation(settings: dict, expected: list[float]) -> None:
    """With numbers u at equal distances the frequencies are the probabilities, to one of them."""
    n = 2000
    u_BU, drawn_B = (np.arange(n)[:, None] + 0.5) / n, np.empty(n, np.int64)
    draw_rows(LOGITS.repeat(n, 1).numpy(), u_BU, *Sampler(**settings).settings, drawn_B)
    frequency_V = np.bincount(drawn_B, minlength=4) / n
    np.testing.assert_allclose(frequency_V, expected, atol=1.01 / n)


WEIGHTS = st.lists(
    st.floats(0, 1, width=32, allow_subnormal=False) | st.sampled_from([0.0, 0.25, 0.5]),
    min_size=1,
    max_size=40,
).filter(any)


@given(WEIGHTS, st.integers(1, 40))
def test_the_largest_weights_by_number(weights: list[float], number: int) -> None:
    weight_V = np.array(weights, np.float32)
    kept_V = weight_V.copy()
    total = keep_largest(kept_V, np.float32(number), True)
    expected_V = np.zeros_like(weight_V)
    first = np.argsort(-weight_V, kind="stable")[:number]
    expected_V[first] = weight_V[first]
    assert kept_V.tolist() == expected_V.tolist()
    assert total == pytest.approx(expected_V.sum())


@given(WEIGHTS, st.floats(0.01, 0.99))
def test_the_largest_weights_by_their_sum(weights: list[float], share: float) -> None:
    weight_V = np.array(weights, np.float32)
    kept_V, needed = weight_V.copy(), np.float32(share * weight_V.sum())
    total = keep_largest(kept_V, needed, False)
    order = np.argsort(-weight_V, kind="stable")
    kept = int((kept_V > 0).sum())
    # The greatest ones, of equal ones the first, and no more of them than are needed.
    assert kept_V[order].tolist() == [*weight_V[order][:kept], *[0] * (len(order) - kept)]
    assert total == pytest.approx(kept_V.sum())
    assert total >= needed * (1 - 1e-5)
    assert total - weight_V[order][kept - 1] < needed * (1 + 1e-5)


@pytest.mark.parametrize("settings", [{"top_k": 2}, {"top_p": 0.6}, {"top_k": 3, "top_p": 0.6}])
def test_only_kept_classes_are_drawn(settings: dict) -> None:
    shuffled = Sampler(**settings)(
        LOGITS[[3, 1, 0, 2]].expand(40_000, -1), torch.Generator().manual_seed(2)
    )
    counts = torch.bincount(shuffled, minlength=4) / 40_000
    torch.testing.assert_close(counts, torch.tensor([0, 0.375, 0.625, 0]), atol=0.01, rtol=0)


def test_the_same_seed_gives_the_same_draws() -> None:
    first, second = (
        Sampler()(LOGITS.expand(50, -1), torch.Generator().manual_seed(3)) for _ in range(2)
    )
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    "settings",
    [{"temperature": -1.0}, {"temperature": float("nan")}, {"top_k": -1}, {"top_p": 0.0},
     {"top_p": 1.1}],
)  # fmt: skip
def test_settings_out_of_range(settings: dict) -> None:
    with pytest.raises(UserError, match=next(iter(settings))):
        Sampler(**settings)
