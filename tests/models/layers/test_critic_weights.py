"""Particles that a critic chooses: their distribution, with a critic whose z is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from musegen.models.layers import critic_weights
from musegen.models.layers.critic_weights import CriticWeights
from musegen.models.layers.frame_sampler import FrameSampler
from musegen.models.layers.particles import continue_pieces

FRAMES = 6


class Coins(FrameSampler):
    """Two notes per frame, each with probability ½."""

    def __init__(self, rows: int) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.x_NTD, self.t = torch.zeros(rows, FRAMES, 2), 0

    def draw(self, given: None = None) -> tuple[Tensor, None]:
        return torch.rand(len(self.x_NTD), 2, generator=self.generator).round(), None

    def append(self, frame_ND: Tensor) -> None:
        self.x_NTD[:, self.t] = frame_ND
        self.t += 1

    def select(self, row_N: Tensor) -> None:
        self.x_NTD = self.x_NTD[row_N]


class Counter(torch.nn.Module):
    """z is the number of times that the first note has sounded; the state is that number."""

    def forward(
        self, x_BTD: Tensor, first: int = 0, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        before_B = 0 if state is None else state[0, :, 0]
        z_BT = (x_BTD[:, first:, 0].cumsum(1).t() + before_B).t()
        return z_BT, z_BT[None, :, -1:]


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(critic_weights, "BLOCK", 2)


def chosen(pieces: int, particles: int) -> Tensor:
    sampler = Coins(pieces * particles)
    continue_pieces(sampler, torch.zeros(0, 2), None, particles, 1, critic=Counter())
    return sampler.x_NTD[::particles]


def test_the_target_is_the_model_times_the_exponential_of_the_score() -> None:
    # ½ exp(1) / (½ + ½ exp(1)) for the first note; the second one is as before.
    x_NTD = chosen(400, 64)
    assert x_NTD[..., 0].mean().item() == pytest.approx(0.731, abs=0.03)
    assert x_NTD[..., 1].mean().item() == pytest.approx(0.5, abs=0.04)


def test_one_particle_is_a_sample_of_the_model() -> None:
    assert chosen(4000, 1)[..., 0].mean().item() == pytest.approx(0.5, abs=0.02)


def test_few_particles_are_between() -> None:
    assert 0.56 < chosen(1000, 4)[..., 0].mean().item() < 0.731


def test_in_the_end_all_particles_of_a_piece_are_the_chosen_one() -> None:
    sampler = Coins(12)
    continue_pieces(sampler, torch.zeros(0, 2), None, 4, 1, critic=Counter())
    piece_KPTD = sampler.x_NTD.unflatten(0, (3, 4))
    assert torch.equal(piece_KPTD, piece_KPTD[:, :1].expand_as(piece_KPTD))
    assert not torch.equal(piece_KPTD[0], piece_KPTD[1])


def test_the_prime_does_not_count() -> None:
    """The critic's score of a prime is common to all particles, so it changes no choice."""

    def after(prime_TD: Tensor) -> Tensor:
        sampler = Coins(8)
        continue_pieces(sampler, prime_TD, None, 2, 1, critic=Counter())
        assert torch.equal(sampler.x_NTD[:, :3], prime_TD.expand(8, 3, 2))
        return sampler.x_NTD[:, 3:]

    assert torch.equal(after(torch.ones(3, 2)), after(torch.zeros(3, 2)))


def test_the_scores_follow_the_sequences() -> None:
    """After rows are selected, the critic continues with their past and no other's."""
    sampler = Coins(6)
    weights = CriticWeights(Counter(), sampler, 3)

    def append(first_note: list[float]) -> None:
        sampler.append(torch.tensor(first_note)[:, None] * torch.ones(6, 2))

    append([0, 0, 0, 1, 0, 0])
    weights.row_of_pieces()  # reads the first frame
    row_N = torch.tensor([1, 2, 2, 3, 3, 4])
    sampler.select(row_N)
    weights.select(row_N)
    append([1, 0, 0, 0, 0, 1])
    weights.row_of_pieces()
    assert weights.z_N.tolist() == [1, 0, 0, 1, 1, 1]
    assert weights.z_N.tolist() == sampler.x_NTD[:, :2, 0].sum(1).tolist()
