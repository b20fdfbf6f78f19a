"""How the next message is drawn: repeats of a match, and the sampler for the others."""

from __future__ import annotations

import pytest
import torch

from musegen.models.layers.message_match import MatchLogits
from musegen.models.layers.softmax_sampler import Sampler
from musegen.models.message_picker import MessagePicker

N = 20_000
SIZES = (4, 3, 3)


def draw(sampler: Sampler, level: int, z_V: torch.Tensor) -> torch.Tensor:
    """N messages (N, F) after a match of the classes 0, with logits z_V in each field."""
    match_logits = MatchLogits(1, 3)
    match_logits.by_level.weight.data[level] = 1.0
    picker = MessagePicker(sampler, torch.Generator().manual_seed(0), None, match_logits)
    with torch.inference_mode():
        picker.begin(torch.zeros(N, 1), torch.tensor([[level, 0, 0, 0]]).expand(N, -1))
        drawn = [picker.pick(f, z_V[:size].expand(N, -1)) for f, size in enumerate(SIZES)]
    return torch.stack(drawn, dim=1)


Z = torch.tensor([0.5, 1.0, 0.0, -3.0])
"""With the gain 1 of the match, the class 0 has the greatest probability."""


def test_a_repeat_keeps_its_own_probability_whatever_the_sampler() -> None:
    x_NF = draw(Sampler(temperature=0.5, top_p=0.3), 3, Z)
    p = [(Z[:size] + torch.eye(size)[0]).softmax(0)[0] for size in SIZES]
    repeated_N = torch.ones(N, dtype=torch.bool)
    for f in range(3):
        of = x_NF[repeated_N, f]
        assert float((of == 0).double().mean()) == pytest.approx(float(p[f]), abs=0.015)
        # Of the others the nucleus has only the most likely one.
        assert set(of.tolist()) == {0, 1}
        repeated_N &= x_NF[:, f] == 0


def test_after_another_note_the_match_is_over() -> None:
    x_NF = draw(Sampler(temperature=0.5, top_p=0.3), 3, Z)
    other_N = x_NF[:, 0] != 0
    assert set(x_NF[other_N, 1].tolist()) == {1}  # without a gain it is the most likely one


def test_short_matches_are_drawn_by_the_sampler() -> None:
    x_NF = draw(Sampler(temperature=0.5, top_p=0.3), 2, Z)
    assert set(x_NF[:, 0].tolist()) == {0}


def test_without_temperature_the_most_likely_class_is_taken() -> None:
    x_NF = draw(Sampler(temperature=0), 3, Z)
    assert x_NF.unique().tolist() == [0]
