"""Hold limits and particles, with a sampler whose frames are written in the test."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from musegen.models.layers.frame_sampler import FrameSampler
from musegen.models.layers.hold_limits import HoldLimits, Holds, hold_limits
from musegen.models.layers.particles import continue_pieces

D, LOW = 4, 2


class Scripted(FrameSampler):
    """Row n plays script[n], whatever it has played before; `row` says which row continues."""

    def __init__(self, script_NTD: Tensor) -> None:
        self.script_NTD, self.generator = script_NTD, torch.Generator().manual_seed(0)
        self.x_NTD, self.t = torch.zeros_like(script_NTD), 0
        self.row_N = torch.arange(len(script_NTD))

    def draw(self) -> tuple[Tensor, None]:
        return self.script_NTD[self.row_N, self.t], None

    def append(self, frame_ND: Tensor) -> None:
        self.x_NTD[:, self.t] = frame_ND
        self.t += 1

    def select(self, row_N: Tensor) -> None:
        self.x_NTD, self.row_N = self.x_NTD[row_N], self.row_N[row_N]


def roll(*frames: str) -> Tensor:
    return torch.tensor([[float(c) for c in frame] for frame in frames])


def longest_runs(on_ND: Tensor) -> int:
    """The longest run of ones in any column."""
    longest = run_D = torch.zeros(on_ND.shape[1])
    for frame_D in on_ND:
        run_D = (run_D + 1) * frame_D
        longest = torch.maximum(longest, run_D)
    return int(longest.max())


def test_limits_are_high_quantiles_of_the_holds_of_the_training_rolls() -> None:
    # Column 0 sounds for 6 frames under a melody, so note and chord are held for 6 frames; column 3
    # alone is a chord of 3 frames. A thousand short notes leave the 99.9 % quantile at 6 only with
    # more than one hold in a thousand of that length.
    long = roll("1000", "1010", "1000", "1010", "1000", "1010", "0000", "0001", "0001", "0001")
    assert hold_limits([long.numpy().astype(np.uint8)] * 3, LOW) == HoldLimits(6, 6)
    short = np.tile(roll("0010", "0000").numpy(), (10_000, 1))
    assert hold_limits([long.numpy(), short], LOW) == HoldLimits(1, 1)
    assert hold_limits([np.zeros((5, D), np.uint8)], LOW) == HoldLimits(1, 1)


def test_the_chord_is_what_sounds_below_middle_c_or_all_notes() -> None:
    holds = Holds(roll("1001", "1010", "1011")[None], LOW, HoldLimits(99, 3))
    assert holds.chord_N.tolist() == [3]  # the melody changes, the lower note does not
    assert holds.held_too_long(roll("1001")).tolist() == [[True, False, False, False]]
    assert not holds.held_too_long(roll("0101")).any()
    high = Holds(roll("0011", "0011", "0001")[None], LOW, HoldLimits(99, 3))
    assert high.chord_N.tolist() == [1]
    assert Holds(roll("0011", "0000", "0000")[None], LOW, HoldLimits(1, 1)).chord_N.tolist() == [0]


def test_a_single_continuation_releases_what_is_held_too_long() -> None:
    sampler = Scripted(roll(*["1010"] * 7)[None])
    continue_pieces(sampler, roll("1010", "1010")[:, :], HoldLimits(3, 99), 1, LOW)
    # The two frames of the prime count.
    assert sampler.x_NTD[0].tolist() == roll(
        "1010", "1010", "1010", "0000", "1010", "1010", "1010"
    ).tolist()  # fmt: skip


def test_a_particle_that_gets_stuck_continues_another_of_its_piece() -> None:
    stuck, moving = roll(*["1000"] * 9), roll(*["1000", "0100", "0010"] * 3)
    other = roll(*["0001", "0010", "0100"] * 3)
    sampler = Scripted(torch.stack([stuck, moving, other, other]))
    continue_pieces(sampler, torch.zeros(0, D), HoldLimits(3, 99), 2, LOW)
    assert sampler.row_N.tolist() == [1, 1, 2, 3]
    assert torch.equal(sampler.x_NTD[0], moving)  # the whole past of the other particle
    assert torch.equal(sampler.x_NTD[2], other)


def test_no_generation_holds_longer_than_the_limits() -> None:
    script = (torch.rand(12, 60, D, generator=torch.Generator().manual_seed(1)) < 0.9).float()
    for particles in (1, 3):
        sampler = Scripted(script)
        continue_pieces(sampler, torch.zeros(0, D), HoldLimits(4, 2), particles, LOW)
        for piece_TD in sampler.x_NTD:
            assert longest_runs(piece_TD) <= 4
            low_TD = piece_TD[:, :LOW]
            same_T = (low_TD[1:] == low_TD[:-1]).all(1) & low_TD[1:].any(1)
            assert longest_runs(same_T[:, None].float()) <= 1
    unlimited = Scripted(script)
    continue_pieces(unlimited, torch.zeros(0, D), None, 1, LOW)
    assert torch.equal(unlimited.x_NTD, script)
