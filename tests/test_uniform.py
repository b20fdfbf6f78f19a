"""Uniform numbers: in [0, 1), spread evenly, repeatable, of any count and shape."""

from __future__ import annotations

import pytest
import torch

from musegen.uniform import Uniform


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_they_are_uniform(dtype: torch.dtype) -> None:
    uniform_ = Uniform(1_000_001, torch.Generator().manual_seed(1))
    x_N = uniform_(torch.empty(1_000_001, dtype=dtype))
    assert 0 <= float(x_N.min()) < 1e-5 < 1 - 1e-5 < float(x_N.max()) < 1
    counts = torch.histc(x_N.float(), 100, 0, 1)
    assert float((counts - 10_000).abs().max()) < 500  # 5 standard deviations
    neighbours = torch.corrcoef(torch.stack([x_N[:-1], x_N[1:]]))[0, 1]
    assert abs(float(neighbours)) < 0.005


def test_the_greatest_number_is_below_one() -> None:
    uniform_, out = Uniform(4, None), torch.empty(4)
    greatest = torch.full((2,), 2**63 - 1)  # the upper half of each is 2³¹ − 1

    class Bits:
        def __getitem__(self, _: slice) -> Bits:
            return self

        def random_(self, *_: int, **__: object) -> torch.Tensor:
            return greatest

    uniform_._bits = Bits()  # type: ignore[assignment]
    assert uniform_(out).tolist()[1] == 1 - 2.0**-24


def test_a_seed_gives_them_again_in_any_shape() -> None:
    first = Uniform(15, torch.Generator().manual_seed(3))(torch.empty(3, 5))
    again = Uniform(99, torch.Generator().manual_seed(3))(torch.empty(15))
    assert torch.equal(first.flatten(), again)
    assert len(again.unique()) == 15
