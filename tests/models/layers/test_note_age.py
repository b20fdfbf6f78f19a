"""Note ages and clocks against counting."""

from __future__ import annotations

import torch

from musegen.models.layers.clock import clock_one_hot
from musegen.models.layers.note_age import (
    AGE_BUCKETS,
    FINE_AGE_BUCKETS,
    age_buckets,
    age_one_hot,
    note_ages,
)


def test_ages_count_the_frames_of_each_note() -> None:
    x_1TD = torch.tensor([[[1, 0], [1, 1], [0, 1], [1, 1], [1, 0]]]).float()
    assert note_ages(x_1TD).tolist() == [[[1, 0], [2, 1], [0, 2], [1, 3], [2, 0]]]
    carried = torch.tensor([[4, 7]])
    assert note_ages(x_1TD, carried).tolist() == [[[5, 0], [6, 1], [0, 2], [1, 3], [2, 0]]]


def test_ages_are_carried_between_parts() -> None:
    x_BTD = (torch.rand(3, 20, 5, generator=torch.Generator().manual_seed(0)) < 0.8).float()
    whole, parts, carried = note_ages(x_BTD), [], None
    for part_BTD in x_BTD.split([1, 7, 1, 11], dim=1):
        parts.append(note_ages(part_BTD, carried))
        carried = parts[-1][:, -1]
    assert torch.equal(torch.cat(parts, dim=1), whole)
    for b, t, d in ((0, 0, 0), (1, 9, 2), (2, 19, 4)):
        count = 0
        while t - count >= 0 and x_BTD[b, t - count, d]:
            count += 1
        assert whole[b, t, d] == count


def test_age_buckets() -> None:
    age = torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 15, 16, 23, 24, 31, 32, 999])
    expected = [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10]
    assert age_buckets(age).tolist() == expected
    hot = age_one_hot(age)
    assert hot.shape == (len(age), len(AGE_BUCKETS))
    assert not hot[0].any()
    assert (hot[1:].argmax(-1) + 1).tolist() == expected[1:]
    assert hot.sum(-1).tolist() == [0.0] + [1.0] * (len(age) - 1)


def test_fine_ages_tell_the_ends_of_bars_from_what_is_beside_them() -> None:
    age = torch.tensor([0, 1, 7, 8, 9, 15, 16, 17, 18, 23, 24, 25, 31, 32, 33, 999])
    bucket = age_buckets(age, FINE_AGE_BUCKETS)
    assert bucket[:8].tolist() == age[:8].tolist()
    for end_of_bar in (8, 16, 24, 32):
        (of_end,) = bucket[age == end_of_bar].tolist()
        assert (bucket == of_end).sum() == 1
    assert age_one_hot(age, FINE_AGE_BUCKETS).shape == (len(age), len(FINE_AGE_BUCKETS))


def test_the_clock() -> None:
    assert clock_one_hot(5, periods=(2, 3)).tolist() == [
        [1, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 0, 0, 1], [0, 1, 1, 0, 0], [1, 0, 0, 1, 0],
    ]  # fmt: skip
    assert clock_one_hot(3).shape == (3, 30)
    assert torch.equal(clock_one_hot(7)[4:], clock_one_hot(3, first=4))
    both = clock_one_hot(3, first=torch.tensor([0, 4]))
    assert torch.equal(both, torch.stack([clock_one_hot(3), clock_one_hot(3, first=4)]))
