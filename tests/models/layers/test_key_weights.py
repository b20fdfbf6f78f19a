"""The weights of notes of the key, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from musegen.models.layers.key_weights import IN_SCALE, SCALE, KeyWeights

IN, OUT = IN_SCALE / 7, (1 - IN_SCALE) / 5
MESSAGES = np.array


def weights(strength: float = 1.0, notes: int = 24, lowest: int = 60) -> KeyWeights:
    return KeyWeights(notes, lowest, strength)


def played(key: KeyWeights, *pitches: int, velocity: int = 5) -> KeyWeights:
    """Each note starts and, with a velocity of 0, only ends."""
    for pitch in pitches:
        key.read(MESSAGES([[pitch - 60, velocity, 0]]))
        key.read(MESSAGES([[pitch - 60, 0, 0]]))
    return key


def added(key: KeyWeights, z_BP: torch.Tensor) -> torch.Tensor:
    z_BP = z_BP.clone()
    key.add_to(z_BP.numpy())
    return z_BP


def probabilities(key: KeyWeights, z_BP: torch.Tensor) -> torch.Tensor:
    return added(key, z_BP).softmax(-1)


def test_before_the_first_note_all_are_equal() -> None:
    z_BP = torch.randn(1, 24)
    torch.testing.assert_close(added(weights(), z_BP), z_BP)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_after_a_scale_its_notes_have_the_odds_of_the_expert(strength: float) -> None:
    """After C major five times, the posterior of all other scales is below 10⁻³."""
    key = played(weights(strength), *[60 + step for step in SCALE] * 5)
    p_P = probabilities(key, torch.zeros(1, 24))[0]
    odds = p_P[6] / p_P[0]  # F sharp to C
    assert odds == pytest.approx((OUT / IN) ** strength, rel=1e-2)
    assert p_P[[0, 2, 4, 5, 7, 9, 11]].std() < 1e-3


def test_whether_a_note_starts_stays_as_probable() -> None:
    key = played(weights(), *(60 + step for step in SCALE))
    key.read(MESSAGES([[6, 9, 0]]))  # F sharp sounds, and C
    key.read(MESSAGES([[0, 9, 0]]))
    z_BP = torch.randn(1, 24)
    before_P, after_P = z_BP.softmax(-1)[0], probabilities(key, z_BP)[0]
    sounding = [0, 6]
    torch.testing.assert_close(after_P[sounding], before_P[sounding])
    assert after_P[1] < before_P[1]
    assert after_P[2] > before_P[2]


def test_all_may_sound() -> None:
    key = weights(notes=2)
    key.read(MESSAGES([[0, 1, 0]]))
    key.read(MESSAGES([[1, 1, 0]]))
    z_BP = torch.tensor([[0.5, -1.0]])
    torch.testing.assert_close(added(key, z_BP), z_BP)


def test_releases_say_nothing_and_a_piece_can_modulate() -> None:
    quiet = played(weights(), 61, 66, 68, velocity=0)
    assert not quiet.log_prob_BK.any()
    key = played(weights(), *[60, 62, 64, 65, 67, 69, 71] * 10)
    assert int(key.log_prob_BK.argmax()) == 0
    played(key, *[66, 68, 70, 71, 73, 75, 77] * 20)  # F sharp major
    assert int(key.log_prob_BK.argmax()) == 6


def test_one_onset_is_forgotten_by_half_after_64() -> None:
    key = played(weights(), 60)
    difference = float(key.log_prob_BK[0, 0] - key.log_prob_BK[0, 6])  # C is not in F sharp major
    assert difference == pytest.approx(math.log(IN / OUT))
    for _ in range(64):
        played(key, 65)  # F is in both scales, as E sharp
    rest = float(key.log_prob_BK[0, 0] - key.log_prob_BK[0, 6])
    assert rest == pytest.approx(difference / 2, rel=1e-4)


def test_pieces_go_their_own_way() -> None:
    key = played(weights(), 60)
    key.repeat(2)
    key.read(MESSAGES([[2, 5, 0], [1, 5, 0]]))
    alone = played(weights(), 60)
    alone.read(MESSAGES([[1, 5, 0]]))
    assert np.array_equal(key.log_prob_BK[1:], alone.log_prob_BK)
    assert np.array_equal(key.silent_BP[1:], alone.silent_BP)
    assert not np.array_equal(key.log_prob_BK[:1], alone.log_prob_BK)
