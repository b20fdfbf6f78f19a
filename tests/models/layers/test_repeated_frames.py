"""Repeats that are made more probable: the exact distribution, by frequencies."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from musegen.codecs.midi import write_notes
from musegen.codecs.roll_codec import RollCodec
from musegen.errors import UserError
from musegen.models.biaxial_lstm import BiaxialLSTM
from musegen.models.layers.frame_sampler import FrameSampler
from musegen.models.layers.repeated_frames import FIRST_LEVEL, LAST_LEVEL, draw_repeating
from musegen.models.rnn_nade import RNNNADE
from musegen.models.rnn_rbm import RNNRBM
from musegen.models.roll_model import USUAL_REPEAT_ODDS
from musegen.specs import Rolls

P = {(0, 0): 0.1, (0, 1): 0.2, (1, 0): 0.3, (1, 1): 0.4}


class Known(FrameSampler):
    """Frames of two notes with the probabilities P, after a match of a level."""

    def __init__(self, rows: int, level: int, match: tuple[int, int]) -> None:
        self.x_NTD, self.t = torch.zeros(rows, 1, 2), 0
        self.generator = torch.Generator().manual_seed(0)
        self.level, self.match = level, match

    def draw(self, given=None) -> tuple[torch.Tensor, None]:
        drawn = torch.multinomial(
            torch.tensor(list(P.values())), len(self.x_NTD), True, generator=self.generator
        )
        return torch.tensor(list(P), dtype=torch.float32)[drawn], None

    def append(self, frame_ND: torch.Tensor) -> None: ...

    def select(self, row_N: torch.Tensor) -> None: ...

    def longest_match(self) -> tuple[torch.Tensor, torch.Tensor] | None:
        rows = len(self.x_NTD)
        return torch.full((rows,), self.level), torch.tensor([self.match] * rows)

    def log_prob(self, x_NFD: torch.Tensor) -> torch.Tensor:
        return torch.full(x_NFD.shape[:2], math.log(P[self.match]))


@pytest.mark.parametrize("match", [(0, 1), (1, 1)])
@pytest.mark.parametrize(
    ("odds", "level"), [(4.0, FIRST_LEVEL), (4.0, LAST_LEVEL), (4.0, 2), (4.0, 6), (1.0, 5)]
)
def test_only_the_odds_of_the_repeat_change(odds: float, level: int, match: tuple) -> None:
    frame_ND = draw_repeating(Known(40_000, level, match), odds)
    weight = {
        x: p * (odds if x == match and FIRST_LEVEL <= level <= LAST_LEVEL else 1)
        for x, p in P.items()
    }
    for x, w in weight.items():
        frequency = (frame_ND == torch.tensor(x)).all(1).double().mean()
        assert frequency == pytest.approx(w / sum(weight.values()), abs=0.01)


def test_certain_repeats_and_estimates_above_one() -> None:
    sampler = Known(100, FIRST_LEVEL, (1, 1))
    sampler.log_prob = lambda x_NFD: torch.full(x_NFD.shape[:2], 0.3)  # type: ignore[method-assign]
    # What is certain can be no more probable: the draws stay as they are.
    drawn_ND, _ = Known(100, FIRST_LEVEL, (1, 1)).draw()
    assert torch.equal(draw_repeating(sampler, 8.0), drawn_ND)


@pytest.mark.parametrize("kind", [BiaxialLSTM, RNNNADE, RNNRBM])
def test_a_phrase_of_the_prime_returns(kind: type, tmp_path) -> None:
    """The prime is a phrase and its first nine frames once more; the rest of it follows."""
    phrase_TD = np.eye(6, dtype=np.uint8)[np.random.default_rng(1).integers(0, 6, 20)]
    codec = RollCodec(pitch_range=(57, 63), repeats="retrigger")
    prime_TD = np.concatenate([phrase_TD, phrase_TD[:9]])
    write_notes(codec.decode(prime_TD), tmp_path / "prime.mid")
    torch.manual_seed(0)
    model = kind(Rolls(6), codec, longest_match=True)
    settings = {"length": 8, "prime": tmp_path / "prime.mid", "include_prime": True}
    (notes,) = model.generate(1, repeat_odds=1e6, **settings)
    expected_TD = np.concatenate([prime_TD, phrase_TD[9:17]])
    roll_TD = codec.encode(notes)
    assert np.array_equal(roll_TD, expected_TD)


def test_a_model_without_matches_refuses() -> None:
    model = BiaxialLSTM(Rolls(6), RollCodec(pitch_range=(57, 63)))
    with pytest.raises(UserError, match=r"repeat_odds=8: .* model.longest_match=true"):
        model.generate(1, length=3, repeat_odds=8)
    assert len(model.generate(1, length=3, repeat_odds=1)) == 1
    assert len(model.generate(1, length=3)) == 1


def test_the_usual_odds() -> None:
    torch.manual_seed(0)
    model = BiaxialLSTM(Rolls(3), RollCodec(pitch_range=(57, 60)), longest_match=True)
    first, second, third = (
        model.generate(2, length=200, repeat_odds=odds)[0] for odds in (None, USUAL_REPEAT_ODDS, 1)
    )
    assert first.tolist() == second.tolist() != third.tolist()
