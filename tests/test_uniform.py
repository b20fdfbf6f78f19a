"""Uniform numbers: in [0, 1), spread evenly, independent where promised, repeatable."""

from __future__ import annotations

import pytest
import torch

from musegen.uniform import Uniform


def drawn(*size: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x_ND = torch.empty(size, dtype=dtype)
    assert Uniform(x_ND)(x_ND, torch.Generator().manual_seed(seed)) is x_ND
    return x_ND


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_they_are_uniform(dtype: torch.dtype) -> None:
    x_ND = drawn(1001, 999, dtype=dtype)
    assert 0 <= float(x_ND.min()) < 1e-5 < 1 - 1e-5 < float(x_ND.max()) < 1
    counts = torch.histc(x_ND.float(), 100, 0, 1)
    assert float((counts - x_ND.numel() / 100).abs().max()) < 500  # 5 standard deviations


def test_every_bit_of_24_is_a_coin() -> None:
    whole_ND = drawn(1000, 501).double() * 2**24
    assert torch.equal(whole_ND, whole_ND.round())
    for bit in range(24):
        ones_N = (whole_ND.long() >> bit & 1).double().mean(1)
        # The lower 8 bits are a row's: as many coins as rows, not as numbers.
        assert abs(float(ones_N.mean()) - 0.5) < 5 * 0.5 / (1000 * (501 if bit >= 8 else 1)) ** 0.5


def test_the_least_is_zero_and_the_greatest_below_one() -> None:
    class Still:
        def random_(self, *_: int, **__: object) -> None:
            """The bits stay as they are."""

    out_ND = torch.empty(2, 1)
    uniform = Uniform(out_ND)
    uniform._bits = Still()  # type: ignore[assignment]
    uniform._upper_ND.copy_(torch.tensor([[-(2**15)], [2**15 - 1]]))
    uniform._lower_N1.copy_(torch.tensor([[0], [255]]))
    assert uniform(out_ND).flatten().tolist() == [0, 1 - 2.0**-24]


def test_neighbours_in_a_row_and_in_a_column_know_nothing_of_each_other() -> None:
    x_ND = drawn(1000, 1000)
    for a, b in ((x_ND[:, :-1], x_ND[:, 1:]), (x_ND[:-1], x_ND[1:])):
        assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 0.005


def test_rare_units_switch_together_no_more_often_than_apart() -> None:
    # p = 0.01: expected 0.0001 of the pairs, ± 0.00001 over a million pairs
    on_ND = drawn(2000, 1000) < 0.01
    both = (on_ND[:, ::2] & on_ND[:, 1::2]).float().mean()
    assert abs(float(both) - 1e-4) < 5e-5


def test_a_seed_gives_them_again_and_no_two_alike() -> None:
    first = drawn(3, 5, seed=3)
    assert torch.equal(first, drawn(3, 5, seed=3))
    assert len(first.unique()) == 15


def test_a_batch_of_nothing_is_filled_with_nothing() -> None:
    assert drawn(0, 5).shape == (0, 5)
