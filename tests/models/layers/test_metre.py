"""The combs of the metre, by hand, and step by step."""

from __future__ import annotations

import pytest
import torch

from musegen.models.layers.clock import PERIODS
from musegen.models.layers.metre import COMB_PERIODS, REACH, TEETH, MetreInput

COMBS = {p: i for i, p in enumerate(COMB_PERIODS)}
LOW, HIGH = 0, 1


def after_silence(frames: int) -> torch.Tensor:
    """The silent frame before a piece and so many silent frames of two pitches, low and high."""
    return torch.zeros(1, 1 + frames, 2)


def combs_of(x_BSD: torch.Tensor, steps: int) -> torch.Tensor:
    """m by period and voice, (steps, 9, 2)."""
    return MetreInput(False, True, 1)(x_BSD, steps)[0].unflatten(-1, (-1, 2))


def test_a_note_on_every_third_frame() -> None:
    x_BSD = after_silence(30)
    x_BSD[0, 1::3, HIGH] = 1  # piece frames 0, 3, 6, …
    m_TPV = combs_of(x_BSD, 3)  # of the frames 28, 29 and 30
    assert m_TPV[:, COMBS[3], HIGH].tolist() == [0, 0, 1]
    assert m_TPV[:, COMBS[6], HIGH].tolist() == [0, 0, 1]
    # Of 26, 24, 22 and 20 there is 24; of 27, 25, 23 and 21 there are two; of 28 … 22 there is 24.
    assert m_TPV[:, COMBS[2], HIGH].tolist() == [0.25, 0.5, 0.25]
    # Of the frames 28 − 12 k there are 16 and 4; the silent frame before the piece counts, too.
    assert m_TPV[2, COMBS[12]].tolist() == [0, 1]
    assert m_TPV[:, :-1, LOW].eq(0).all()
    assert m_TPV[0, -1].tolist() == [0, pytest.approx(8 / 24)]


def test_only_the_first_frame_of_a_note_counts_and_voices_are_apart() -> None:
    x_BSD = after_silence(8)
    x_BSD[0, 3:7, LOW] = 1
    x_BSD[0, 7, HIGH] = 1
    m_TPV = combs_of(x_BSD, 9)
    first = {2: 4, 3: 5, 4: 6, 6: 8}  # the low note starts in piece frame 2
    for period, t in first.items():
        assert m_TPV[t, COMBS[period], LOW] > 0
        assert m_TPV[:t, COMBS[period], LOW].eq(0).all()
    assert m_TPV[8, COMBS[2], HIGH] == pytest.approx(1 / TEETH)  # frame 6, of 6, 4, 2 and 0
    assert m_TPV[8, COMBS[2], LOW] == pytest.approx(1 / TEETH)


def test_before_the_piece_there_is_nothing() -> None:
    x_BSD = after_silence(0)
    assert combs_of(x_BSD, 1).eq(0).all()


@pytest.mark.parametrize("clock", [True, False])
def test_steps_equal_the_whole_piece(clock: bool) -> None:
    frames = 2 * REACH + 30
    x_BSD = (torch.rand(2, 1 + frames, 4, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    x_BSD[:, 0] = 0
    metre = MetreInput(clock, True, 2)
    whole_BTZ = metre(x_BSD, 1 + frames)
    assert whole_BTZ.shape[-1] == metre.out_features == sum(PERIODS) * clock + 18
    for t in (0, 1, 5, REACH, frames - 1, frames):
        step_B1Z = metre(x_BSD[:, : t + 1], 1, t)
        assert torch.equal(step_B1Z[:, 0], whole_BTZ[:, t])
    some_BTZ = metre(x_BSD, 40, 1 + frames - 40)
    assert torch.equal(some_BTZ, whole_BTZ[:, -40:])
    # So many frames before suffice.
    last_BTZ = metre(x_BSD[:, -(40 + REACH + 1) :], 40, 1 + frames - 40)
    assert torch.equal(last_BTZ, whole_BTZ[:, -40:])


def test_nothing_is_asked_for() -> None:
    assert MetreInput(False, False, 2).out_features == 0
