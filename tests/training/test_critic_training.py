"""The training of a critic on pieces that can, or cannot, be told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from musegen.models.layers.roll_critic import RollCritic
from musegen.training.critic import CriticScore, crop, cut, like, train_critic

D, LENGTH = 12, 32


def pieces(n: int, seed: int, density: float) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [
        (rng.random((int(rng.integers(20, 60)), D)) < density).astype(np.uint8) for _ in range(n)
    ]


def trained(density: float) -> CriticScore:
    _, score = train_critic(
        (D, 4), pieces(64, 0, 0.2), pieces(40, 1, 0.2),
        (pieces(64, 2, density), pieces(40, 3, density)), LENGTH, epochs=12, seed=0,
    )  # fmt: skip
    return score


def test_pieces_that_differ_are_told_apart() -> None:
    score = trained(0.4)
    assert score.auc > 0.95
    assert score.cross_entropy < 0.5


def test_pieces_of_one_kind_are_not() -> None:
    score = trained(0.2)
    assert 0.3 < score.auc < 0.7
    assert score.cross_entropy == pytest.approx(np.log(2), abs=0.05)


def test_a_critic_is_frozen_after_its_training_and_global_randomness_does_not_change() -> None:
    state = torch.get_rng_state()
    critic = short(seed=0)
    assert not any(p.requires_grad for p in critic.parameters())
    assert not critic.training
    assert torch.equal(torch.get_rng_state(), state)


def test_a_critic_is_a_function_of_its_seed() -> None:
    weights = short(seed=0).state_dict()
    torch.rand(5)  # whatever was drawn before
    again, other = short(seed=0).state_dict(), short(seed=1).state_dict()
    assert all(torch.equal(again[k], v) for k, v in weights.items())
    assert not torch.equal(other["embed.weight"], weights["embed.weight"])


def short(seed: int) -> RollCritic:
    data = [pieces(4, i, 0.2) for i in range(4)]
    return train_critic((D, 4), data[0], data[1], (data[2], data[3]), LENGTH, 1, seed)[0]


def test_pieces_are_cut_and_padded_with_silence() -> None:
    found = cut([np.ones((2, D)), np.ones((5, D))], 4)
    assert found.frames_N.tolist() == [2, 4]
    assert found.x_NTD.sum(-1).tolist() == [[D, D, 0, 0], [D, D, D, D]]
    assert found.mask_NT.tolist() == [[True, True, False, False], [True] * 4]


def test_generated_pieces_end_where_real_ones_do() -> None:
    real = cut([np.ones((2, D)), np.ones((5, D))], 4)
    found = like(real, [np.ones((4, D))] * 5)
    assert found.frames_N.tolist() == [2, 4, 2, 4, 2]


def test_excerpts_start_at_blocks() -> None:
    x_TD = np.arange(100)[:, None]
    rng = np.random.default_rng(0)
    starts = [int(crop(x_TD, 32, rng)[0, 0]) for _ in range(400)]
    assert set(starts) == {0, 16, 32, 48, 64}
    assert 180 < starts.count(0) < 280
    assert crop(x_TD, 200, rng) is x_TD
