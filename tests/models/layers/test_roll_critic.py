"""The critic of piano-rolls: what it reads, and that it reads frame by frame."""

from __future__ import annotations

import pytest
import torch

from musegen.models.layers.roll_critic import RollCritic, pairs

D, LOW = 8, 3


@pytest.fixture
def critic() -> RollCritic:
    torch.manual_seed(0)
    return RollCritic(D, LOW).eval()


def rolls(pieces: int, frames: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(pieces, frames, D, generator=generator) < 0.3).float()


def test_a_piece_can_be_read_in_parts(critic: RollCritic) -> None:
    x_BTD = rolls(3, 40)
    z_BT, _ = critic(x_BTD)
    parts, state, first = [], None, 0
    for end in (1, 16, 17, 40):
        z, state = critic(x_BTD[:, :end], first, state)
        parts.append(z)
        first = end
    assert torch.allclose(torch.cat(parts, dim=1), z_BT, atol=1e-6)


def test_the_score_of_a_beginning_does_not_know_what_follows(critic: RollCritic) -> None:
    x_BTD = rolls(2, 40)
    z_BT, _ = critic(x_BTD)
    x_BTD[:, 20:] = 1 - x_BTD[:, 20:]
    changed_BT, _ = critic(x_BTD)
    assert torch.equal(z_BT[:, :20], changed_BT[:, :20])
    assert not torch.allclose(z_BT[:, 20], changed_BT[:, 20])


def test_pairs_of_notes_by_their_distance() -> None:
    a_BTD = torch.tensor([[[1.0, 0, 0, 1, 1, 0]]])
    assert pairs(a_BTD, a_BTD, range(1, 5)).tolist() == [[[0.5, 0, 0.5, 0.5]]]
    b_BTD = torch.tensor([[[0, 1.0, 0, 0, 0, 0]]])
    # From 0, 3 and 4 to 1: up by one, down by two and by three.
    assert pairs(a_BTD, b_BTD, range(-3, 2)).tolist() == [[[0.5, 0.5, 0, 0, 0.5]]]


def test_a_training_of_the_model_leaves_the_critic_alone(critic: RollCritic) -> None:
    assert not any(p.requires_grad for p in critic.parameters())
