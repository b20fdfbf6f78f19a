"""Sampling: frequencies compared with the softmax, truncation by hand, wrong settings."""

from __future__ import annotations

import pytest
import torch

from musegen.errors import UserError
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
    weight_K, class_K = Sampler(**settings).kept(LOGITS)
    probabilities = torch.zeros(4)
    probabilities[slice(None) if class_K is None else class_K] = weight_K / weight_K.sum()
    torch.testing.assert_close(probabilities, torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("settings", [{"top_k": 2}, {"top_p": 0.6}, {"top_k": 3, "top_p": 0.6}])
def test_only_kept_classes_are_drawn(settings: dict) -> None:
    shuffled = Sampler(**settings)(LOGITS[[3, 1, 0, 2]].expand(40_000, -1))
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
