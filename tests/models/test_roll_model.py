"""What all models of piano-rolls share: hold limits, particles, samplers with rows to select."""

from __future__ import annotations

import pytest
import torch

from musegen.codecs.roll_codec import RollCodec
from musegen.errors import UserError
from musegen.models import RNNNADE, RNNRBM, BiaxialLSTM
from musegen.models.layers.hold_limits import HoldLimits
from musegen.models.roll_model import RollModel
from musegen.specs import RollBatch, Rolls

pytestmark = pytest.mark.usefixtures("near_matches")

D = 6
CODEC = RollCodec(pitch_range=(57, 57 + D))
HISTORY = {
    "note_age": True, "clock": True, "longest_match": True,
    "attention_heads": 2, "attention_span": 4,
}  # fmt: skip


def tiny(cls: type[RollModel], codec: RollCodec = CODEC, **settings) -> RollModel:
    torch.manual_seed(3)
    sizes = (
        {"hidden": 4, "global_hidden": 3} if cls is BiaxialLSTM else {"hidden": 4, "cell": "lstm"}
    )
    model = cls(Rolls(D), codec, **sizes, **HISTORY, **settings)
    for p in model.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.5)
    return model.eval()


ALL = pytest.mark.parametrize("cls", [RNNRBM, RNNNADE, BiaxialLSTM])


@ALL
@torch.inference_mode()
def test_a_selected_row_continues_with_its_whole_past(cls) -> None:
    model = tiny(cls)
    history_NTD = (torch.rand(3, 7, D, generator=torch.Generator().manual_seed(0)) < 0.4).float()

    def next_frames(rows: list[int]) -> torch.Tensor:
        """Frames after these rows of the history, appended and then selected."""
        sampler = model.frame_sampler(3, 9, 1.0, torch.Generator().manual_seed(5))
        for frame_ND in history_NTD.unbind(1):
            sampler.append(frame_ND)
        sampler.select(torch.tensor(rows))
        for _ in range(2):
            sampler.append(sampler.draw()[0])
        return sampler.x_NTD

    def expected(rows: list[int]) -> torch.Tensor:
        sampler = model.frame_sampler(3, 9, 1.0, torch.Generator().manual_seed(5))
        for frame_ND in history_NTD[rows].unbind(1):
            sampler.append(frame_ND)
        for _ in range(2):
            sampler.append(sampler.draw()[0])
        return sampler.x_NTD

    for rows in ([2, 2, 0], [1, 0, 1]):
        assert torch.equal(next_frames(rows), expected(rows))
    assert not torch.equal(expected([0, 1, 2]), expected([2, 2, 0]))


@ALL
def test_generation_with_particles_stays_within_the_limits(cls) -> None:
    model = tiny(cls, RollCodec(pitch_range=(57, 57 + D), hold_limits=(2, 2)))
    with torch.no_grad():
        (model.context_logit.bias if cls is BiaxialLSTM else model.b_v).fill_(20.0)
    (stuck,) = model.generate(1, length=12)
    (released,) = model.generate(1, length=12, particles=3)
    (by_hand,) = model.generate(1, length=12, max_hold=4)
    frames = CODEC.dt * 1.001
    longest = [(n["end"] - n["start"]).max() / frames for n in (stuck, released, by_hand)]
    assert longest[0] > 11
    assert longest[1] <= 2
    assert 3 < longest[2] <= 4


def test_limits_come_from_the_checkpoint_or_from_the_setting() -> None:
    model = tiny(RNNNADE)
    assert model.limits(1, None) is None
    assert model.limits(2, 7) == HoldLimits(7, 7)
    with pytest.raises(UserError, match="particles=2: this checkpoint does not record .*max_hold"):
        model.generate(1, length=2, particles=2)
    recorded = tiny(RNNNADE, RollCodec(pitch_range=(57, 57 + D), hold_limits=(9, 5)))
    assert recorded.limits(2, None) == HoldLimits(9, 5)


@ALL
def test_histories_are_frozen_in_training_only(cls) -> None:
    model = tiny(cls, frozen_histories=0.9, flipped_notes=0.2)
    x_BTD = (torch.rand(2, 40, D, generator=torch.Generator().manual_seed(0)) < 0.4).float()
    batch = RollBatch(x_BTD, torch.ones(2, 40, dtype=torch.bool))
    assert model.history(batch) is batch.x_BTD
    model.train()
    changed_BTD = model.history(batch) != batch.x_BTD
    assert 0.1 < changed_BTD.float().mean() < 0.6
    assert model.low_pitches == 3  # 57, 58 and 59 are below middle C


@pytest.mark.parametrize("cls", [RNNNADE, BiaxialLSTM])
@torch.inference_mode()
def test_a_sampler_has_the_likelihood_of_training(cls) -> None:
    """In a piece with repeated frames, so that there are matches across the place between the
    frames that were appended and the next ones."""
    model = tiny(cls)
    frames_KD = (torch.rand(3, D, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    x_NTD = frames_KD[torch.tensor([[0, 1, 2, 0, 1, 2, 0, 2, 1], [1, 1, 0, 1, 1, 0, 1, 1, 2]])]
    sampler = model.frame_sampler(2, 9, 1.0, torch.Generator())
    for t in range(5):
        sampler.append(x_NTD[:, t])
    expected_NT = model.log_prob(RollBatch(x_NTD, torch.ones(2, 9, dtype=torch.bool)))
    torch.testing.assert_close(sampler.log_prob(x_NTD[:, 5:]), expected_NT[:, 5:])
