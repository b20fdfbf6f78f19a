"""The longest match of messages, against a search message by message."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from musegen.codecs.message_matches import (
    LEAST_LAG,
    LEVELS,
    LOOP,
    LOOP_PERIOD,
    REACH,
    MessageHistory,
)

SIZES = (4, 2, 3)
NONE = [0, *SIZES]
PIECES = st.lists(st.integers(0, 5), max_size=60)


def messages(numbers: list[int]) -> np.ndarray:
    """(1, T, F): each number is a message."""
    return np.array([[(n % 4, n % 2, n % 3) for n in numbers]], np.int64).reshape(1, -1, 3)


def read(numbers: list[int]) -> tuple[list[list[int]], list[int]]:
    match_BTM, place_BT = MessageHistory(1, SIZES).read(messages(numbers))
    return match_BTM[0].tolist(), place_BT[0].tolist()


def loops(numbers: list[int], t: int) -> bool:
    for period in range(1, LOOP_PERIOD + 1):
        first = t + 1 - max(LOOP, 2 * period)
        if first >= period and numbers[first : t + 1] == numbers[first - period : t + 1 - period]:
            return True
    return False


def searched(numbers: list[int], t: int) -> tuple[int, int]:
    """The level for the message after t, and the place of the one that followed."""
    if loops(numbers, t):
        return 0, 0
    best = (0, -1)
    for s in range(max(0, t - REACH), t - LEAST_LAG + 1):
        length = 0
        while length <= s and numbers[s - length] == numbers[t - length]:
            length += 1
        best = max(best, (min(length.bit_length(), LEVELS), s))
    return (best[0], best[1] + 1) if best[0] else (0, 0)


def test_a_tune_by_hand() -> None:
    """0 1 2 3 4 5 0 1 1 1 1 1 | 0 1: what followed the latest 0 1, at 6 and 7, is the 1 at 8."""
    match_TM, place_T = read([0, 1, 2, 3, 4, 5, 0, 1, 1, 1, 1, 1, 0, 1])
    assert match_TM[11] == [1, 2, 0, 2]  # the 1 at place 1 came before; 2 followed
    assert place_T[11] == 2
    # After 0 1 the one of places 0 and 1 is a match, and that of 6 and 7 is too near.
    assert match_TM[13] == [2, 2, 0, 2]
    assert match_TM[:9] == [NONE] * 9


@settings(max_examples=200)
@given(PIECES)
def test_a_search_finds_the_same(numbers: list[int]) -> None:
    match_TM, place_T = read(numbers)
    x_TF = messages(numbers)[0].tolist()
    for t in range(len(numbers)):
        level, place = searched(numbers, t)
        assert match_TM[t] == ([level, *x_TF[place]] if level else NONE)
        assert place_T[t] == place


def test_long_matches_and_the_reach() -> None:
    rng = np.random.default_rng(0)
    phrase = rng.integers(0, 6, 80).tolist()
    other = [7] * (REACH - 40)
    match_TM, _ = read(phrase + phrase)  # longer than the period of a loop
    levels = [m[0] for m in match_TM[80:]]
    assert levels[7] >= 4
    assert levels[63:] == [LEVELS] * 17
    match_TM, _ = read(phrase[:20] + other + phrase[:20] + [8] * 40)
    found = [i for i in range(20 + len(other), len(match_TM)) if match_TM[i][0] >= 4]
    assert found  # 20 messages and 8,152 more are within the reach
    match_TM, _ = read(phrase[:20] + [7] * REACH + phrase[:20])
    assert all(level < 4 for level, *_ in match_TM[-20:])


@settings(max_examples=100)
@given(st.lists(st.integers(0, 5), max_size=20), st.integers(1, 70), st.integers(0, 160))
def test_a_loop_ends_its_match(before: list[int], period: int, length: int) -> None:
    """A figure of different messages, played again and again."""
    figure = [6 + i for i in range(period)]
    numbers = before + [figure[i % period] for i in range(period + length)]
    x_TF = np.array([[(n, 0, 0) for n in numbers]], np.int64)
    match_BTM, _ = MessageHistory(1, (80, 2, 3)).read(x_TF)
    found = match_BTM[0, :, 0] > 0
    for t in range(len(numbers)):
        assert found[t] == (searched(numbers, t)[0] > 0)
    if period <= LOOP_PERIOD:
        assert not found[len(before) + period + max(LOOP, 2 * period) - 1 :].any()


@settings(max_examples=50)
@given(st.lists(PIECES.filter(bool), min_size=1, max_size=3), st.integers(1, 7))
def test_pieces_read_in_parts_and_selected(pieces: list[list[int]], part: int) -> None:
    length = min(map(len, pieces))
    x_BTF = np.concatenate([messages(numbers[:length]) for numbers in pieces])
    whole, _ = MessageHistory(len(pieces), SIZES).read(x_BTF)
    history = MessageHistory(len(pieces), SIZES, capacity=1)
    parts = []
    for start in range(0, length, part):
        before = history
        history = history.select(np.arange(len(pieces)))
        parts.append(history.read(x_BTF[:, start : start + part])[0])
        assert before.size == start  # a copy is read to, and the other stays
    assert np.array_equal(np.concatenate(parts, axis=1), whole)
    last = history.select(np.array([len(pieces) - 1, 0]))
    again, _ = last.read(x_BTF[[-1, 0], :1])
    expected, _ = MessageHistory(2, SIZES).read(np.concatenate([x_BTF, x_BTF[:, :1]], 1)[[-1, 0]])
    assert np.array_equal(again[:, 0], expected[:, -1])
