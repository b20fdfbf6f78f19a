"""Histories that stand still where they should, and nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from musegen.models.layers.frozen_history import freeze_history

LOW, BITS = 10, 2 ** torch.arange(10)


def numbered(rows: int = 6, steps: int = 600) -> tuple[Tensor, Tensor]:
    """Frames that say their own number, in the low half and again in the high one."""
    number_TD = torch.arange(steps)[:, None] // BITS % 2
    x_BTD = number_TD.repeat(1, 2).float().expand(rows, -1, -1)
    return x_BTD.clone(), torch.ones(rows, steps, dtype=torch.bool)


def frozen(x_BTD: Tensor, mask_BT: Tensor, *settings: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return freeze_history(x_BTD, mask_BT, LOW, *settings, generator=generator)


def test_nothing_asked_for_is_nothing_done() -> None:
    x_BTD, mask_BT = numbered()
    assert frozen(x_BTD, mask_BT, 0.0, 0.0) is x_BTD


def test_a_frozen_frame_is_the_true_one_before_the_freeze() -> None:
    read_BTD = frozen(*numbered(rows=40), 0.3)
    for half_BTD in (read_BTD[..., :LOW], read_BTD[..., LOW:]):
        from_BT = half_BTD.long() @ BITS
        behind_BT = torch.arange(600) - from_BT
        assert behind_BT.min() == 0
        assert not behind_BT[:, :8].any()  # the first place is eight frames in at the earliest
        assert 85 < behind_BT.max() <= 95
        held_BT = behind_BT[:, 1:] > 0
        # Either as the frame before was read, or a freeze begins: the frame before, as it is.
        same_BT = from_BT[:, 1:] == from_BT[:, :-1]
        assert (same_BT | (behind_BT[:, 1:] == 1) | ~held_BT | (behind_BT[:, :-1] > 1)).all()
        assert same_BT.sum() > 0.8 * held_BT.sum()


def test_halves_freeze_alone_and_together() -> None:
    x_BTD, mask_BT = numbered(rows=60)
    false_BTD = frozen(x_BTD, mask_BT, 0.3) != x_BTD
    low_BT, high_BT = false_BTD[..., :LOW].any(-1), false_BTD[..., LOW:].any(-1)
    assert (low_BT & ~high_BT).any()
    assert (~low_BT & high_BT).any()
    assert (low_BT & high_BT).any()
    assert float(low_BT.float().mean()) == pytest.approx(0.28, abs=0.04)
    assert float(high_BT.float().mean()) == pytest.approx(0.19, abs=0.04)


def test_flips_and_padding() -> None:
    x_BTD, mask_BT = numbered()
    mask_BT[2, 100:] = False
    x_BTD = x_BTD * mask_BT[..., None]
    read_BTD = frozen(x_BTD, mask_BT, 0.0, 0.01)
    flipped_BTD = read_BTD != x_BTD
    assert float(flipped_BTD[mask_BT].float().mean()) == pytest.approx(0.01, rel=0.3)
    for settings in ((0.0, 0.5), (1.0, 0.0), (1.0, 0.1)):
        assert not frozen(x_BTD, mask_BT, *settings)[2, 100:].any()


def test_the_generator_decides() -> None:
    x_BTD, mask_BT = numbered()
    first, again, other = (frozen(x_BTD, mask_BT, 0.3, 0.01, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
