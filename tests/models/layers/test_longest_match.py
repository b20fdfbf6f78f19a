"""The longest match: against a search frame by frame, and the inputs that are made of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from musegen.models.layers import longest_match
from musegen.models.layers.longest_match import (
    LEVELS,
    LONGEST,
    LOOP_FRAMES,
    LOOP_PERIOD,
    LongestMatch,
    MatchFinder,
    MatchInput,
    in_loop,
)

D = 3


def frames(numbers: list[int]) -> Tensor:
    """(1, T, D): each number from 0 to 7 is a frame."""
    return torch.tensor([[[n >> d & 1 for d in range(D)] for n in numbers]]).float()


def loops(numbers: list[int], t: int) -> bool:
    """Whether the frames up to t are a loop."""
    for period in range(1, LOOP_PERIOD + 1):
        count = max(longest_match.LOOP_FRAMES, 2 * period)
        first = t + 1 - count - period
        if first >= 0 and numbers[first + period : t + 1] == numbers[first : t + 1 - period]:
            return True
    return False


def searched(numbers: list[int], t: int, least_lag: int) -> tuple[int, int]:
    """The level for the frame after t, and the frame that followed."""
    if loops(numbers, t):
        return 0, 0
    best = (0, 0)
    held_since = t
    while held_since and numbers[held_since - 1] == numbers[t]:
        held_since -= 1
    for s in range(min(t - least_lag + 1, held_since)):
        length = 0
        while length < LONGEST and s >= length and numbers[s - length] == numbers[t - length]:
            length += 1
        best = max(best, (length.bit_length(), s))
    return best[0], numbers[best[1] + 1] if best[0] else 0


def test_a_tune_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 2 3 4 | 1 2 3: after the second 1 2 comes 3, as before; after the second 1 2 3 comes 4."""
    monkeypatch.setattr(longest_match, "LEAST_LAG", 2)
    level_BT, next_BTD = MatchFinder(D)(frames([1, 2, 3, 4, 1, 2, 3]), 7)
    assert level_BT.tolist() == [[0, 0, 0, 0, 1, 2, 2]]  # lengths 0, 0, 0, 0, 1, 2 and 3
    assert torch.equal(next_BTD, frames([0, 0, 0, 0, 2, 3, 4]))


@settings(max_examples=60)
@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=6),
    st.lists(st.integers(0, 5), min_size=1, max_size=70),
    st.integers(1, 9),
    st.integers(1, 20),
    st.sampled_from([3, LOOP_FRAMES]),
)
def test_every_match_is_the_one_that_a_search_finds(
    motif: list[int], order: list[int], least_lag: int, block: int, loop_frames: int
) -> None:
    numbers = [motif[i % len(motif)] for i in order]
    numbers += numbers[: len(numbers) // 2 + 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(longest_match, "LEAST_LAG", least_lag)
        patch.setattr(longest_match, "BLOCK", block)
        patch.setattr(longest_match, "LOOP_FRAMES", loop_frames)
        x_BSD = torch.cat([frames(numbers), frames(numbers[::-1])])
        level_BT, next_BTD = MatchFinder(D)(x_BSD, len(numbers))
        for b, row in enumerate((numbers, numbers[::-1])):
            expected = [searched(row, t, least_lag) for t in range(len(row))]
            assert level_BT[b].tolist() == [level for level, _ in expected]
            assert torch.equal(next_BTD[b, None], frames([n for _, n in expected]))
        last = len(numbers) // 2 + 1
        some = MatchFinder(D)(x_BSD, last)
        assert torch.equal(some[0], level_BT[:, -last:])
        assert torch.equal(some[1], next_BTD[:, -last:])


def test_the_longest_level_is_reached() -> None:
    numbers = [1, 2, 3, 4, 5, 6, 7, 3, 1, 4, 6, 2, 5, 1, 7, 4, 2, 6, 3, 5] * 3
    level_BT, _ = MatchFinder(D)(frames(numbers), len(numbers))
    assert level_BT[0, 19 + LONGEST - 1] == LEVELS - 1  # 31 equal frames
    assert level_BT[0, 19 + LONGEST :].tolist() == [LEVELS] * (len(numbers) - 19 - LONGEST)


def test_a_chord_that_is_held_does_not_confirm_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 1 1 2 3 3 3 1 1 1 1: the second chord 1 matches the first one, which ended after three
    frames; 3 and 2 match nothing."""
    monkeypatch.setattr(longest_match, "LEAST_LAG", 1)
    level_BT, next_BTD = MatchFinder(D)(frames([1, 1, 1, 2, 3, 3, 3, 1, 1, 1, 1]), 11)
    assert level_BT.tolist() == [[0, 0, 0, 0, 0, 0, 0, 1, 2, 2, 2]]
    assert next_BTD[0, -4:].tolist() == frames([2, 2, 2, 2])[0].tolist()


@pytest.mark.parametrize("period", [1, 4, 12, LOOP_PERIOD])
def test_a_loop_ends_its_own_match(period: int) -> None:
    """1 2 3 … again and again: a match until the figure has gone on for too long, and none from
    then on. Another frame ends the loop."""
    figure = [0b111, *[1 + k % 3 for k in range(period - 1)]]
    numbers = (figure * 100)[:80]
    first = period + max(LOOP_FRAMES, 2 * period) - 1
    id_BS = torch.tensor([numbers])
    assert in_loop(id_BS, 80)[0].tolist() == [t >= first for t in range(80)]
    assert in_loop(id_BS[:, : first + 1], 1).tolist() == [[True]]
    assert not in_loop(torch.tensor([[*numbers, 0]]), 1)
    level_BT, next_BTD = MatchFinder(D)(frames(numbers), 80)
    assert not level_BT[0, first:].any()
    assert not next_BTD[0, first:].any()
    if period > 1:
        assert bool(level_BT[0, max(period, 8) + 1 : first].all())


def test_a_period_that_is_too_long_is_no_loop() -> None:
    numbers = [*range(LOOP_PERIOD + 1)] * 8
    assert not in_loop(torch.tensor([numbers]), len(numbers)).any()


def test_features_and_inputs_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(longest_match, "LEAST_LAG", 1)
    x_BSD = frames([3, 1, 3])  # next, as after the first 3: 1
    match = LongestMatch(D, low=0, high=2, features=1)
    with torch.no_grad():
        match.level.weight.copy_(torch.arange(7.0)[:, None])
        match.followed.weight.copy_(10 * torch.arange(7.0)[:, None])
    assert match(x_BSD, 3)[..., 0].tolist() == [[[0, 0], [0, 0], [11, 1]]]
    inputs = MatchInput(D)
    assert inputs.out_features == LEVELS + 1 + D
    expected_Z = torch.tensor([0.0, 1, 0, 0, 0, 0, 0, 1 / LEVELS, 0, 0])
    torch.testing.assert_close(inputs(x_BSD, 1)[0, 0], expected_Z)
