"""Frozen histories: which frames are replaced, and by which."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from musegen.models.layers.frozen_history import freeze_history

LOW, BITS = 10, 2 ** torch.arange(10)


def numbered(rows: int = 6, steps: int = 600) -> tuple[Tensor, Tensor]:
    """Frames that contain their own number in binary, in the low and in the high half."""
    number_TD = torch.arange(steps)[:, None] // BITS % 2
    x_BTD = number_TD.repeat(1, 2).float().expand(rows, -1, -1)
    return x_BTD.clone(), torch.ones(rows, steps, dtype=torch.bool)


def frozen(x_BTD: Tensor, mask_BT: Tensor, *settings: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return freeze_history(x_BTD, mask_BT, LOW, *settings, generator=generator)


def test_probabilities_of_zero_change_nothing() -> None:
    x_BTD, mask_BT = numbered()
    assert frozen(x_BTD, mask_BT, 0.0, 0.0) is x_BTD


def test_a_frozen_frame_is_the_true_one_before_the_freeze() -> None:
    history_BTD = frozen(*numbered(rows=40), 0.3)
    for half_BTD in (history_BTD[..., :LOW], history_BTD[..., LOW:]):
        source_BT = half_BTD.long() @ BITS
        distance_BT = torch.arange(600) - source_BT
        assert distance_BT.min() == 0
        assert not distance_BT[:, :8].any()  # the first freeze starts at frame 8 or later
        assert 85 < distance_BT.max() <= 95
        frozen_BT = distance_BT[:, 1:] > 0
        # A frozen frame has the source of the frame before it. Exceptions: a freeze starts (the
        # source is the true frame before it), or it overlaps an earlier one.
        same_BT = source_BT[:, 1:] == source_BT[:, :-1]
        assert (same_BT | (distance_BT[:, 1:] == 1) | ~frozen_BT | (distance_BT[:, :-1] > 1)).all()
        assert same_BT.sum() > 0.8 * frozen_BT.sum()


def test_halves_freeze_separately_and_together() -> None:
    x_BTD, mask_BT = numbered(rows=60)
    changed_BTD = frozen(x_BTD, mask_BT, 0.3) != x_BTD
    low_BT, high_BT = changed_BTD[..., :LOW].any(-1), changed_BTD[..., LOW:].any(-1)
    assert (low_BT & ~high_BT).any()
    assert (~low_BT & high_BT).any()
    assert (low_BT & high_BT).any()
    assert float(low_BT.float().mean()) == pytest.approx(0.28, abs=0.04)
    assert float(high_BT.float().mean()) == pytest.approx(0.19, abs=0.04)


def test_flips_and_padding() -> None:
    x_BTD, mask_BT = numbered()
    mask_BT[2, 100:] = False
    x_BTD = x_BTD * mask_BT[..., None]
    history_BTD = frozen(x_BTD, mask_BT, 0.0, 0.01)
    flipped_BTD = history_BTD != x_BTD
    assert float(flipped_BTD[mask_BT].float().mean()) == pytest.approx(0.01, rel=0.3)
    for settings in ((0.0, 0.5), (1.0, 0.0), (1.0, 0.1)):
        assert not frozen(x_BTD, mask_BT, *settings)[2, 100:].any()


def test_the_generator_determines_the_result() -> None:
    x_BTD, mask_BT = numbered()
    first, again, other = (frozen(x_BTD, mask_BT, 0.3, 0.01, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
