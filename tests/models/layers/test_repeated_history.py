"""Repeated histories: stretches that repeat the messages before them."""

from __future__ import annotations

import torch

from musegen.models.layers.repeated_history import LENGTHS, PERIODS, repeat_history

T = 2000


def history(probability: float) -> torch.Tensor:
    x_BTF = torch.arange(T)[None, :, None].expand(2, -1, 3)
    return repeat_history(x_BTF, probability, torch.Generator().manual_seed(0))


def test_the_fields_of_a_message_stay_together() -> None:
    x_BTF = history(0.5)
    assert (x_BTF == x_BTF[..., :1]).all()


def test_a_message_is_itself_or_an_earlier_one_of_the_figure_that_is_repeated() -> None:
    x_BT = history(0.3)[..., 0]
    distance_BT = torch.arange(T) - x_BT
    assert (distance_BT >= 0).all()
    assert int(distance_BT.max()) <= LENGTHS[1] + 2 ** PERIODS[1]
    assert 0.2 < float((distance_BT > 0).float().mean()) < 0.5
    assert not torch.equal(x_BT[0], x_BT[1])
    # Within a stretch the same 2, 4, … 32 messages come round again.
    for period in (2, 4, 8, 16, 32):
        again = (x_BT[:, period:] == x_BT[:, :-period]) & (distance_BT[:, period:] > 0)
        assert again.any()


def test_probability_0_changes_nothing() -> None:
    assert torch.equal(history(0.0)[0, :, 0], torch.arange(T))
