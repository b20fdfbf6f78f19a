"""The two stages before the joint one: what each moves, and what it leaves alone."""

from __future__ import annotations

import pytest
import pytorch_lightning as pl
import torch
from exact_rbm import log_weights, states

from musegen.errors import UserError
from musegen.models.rnn_rbm import RNNRBM
from musegen.specs import RollBatch, Rolls
from musegen.training.callbacks.pretraining import Pretraining, log_odds

D = 4
RBM_PART = {"W_DH", "b_v", "b_h"}


def batches() -> list[RollBatch]:
    """A note climbing by one a frame, over and over; the last frames of one row are padding."""
    x_BTD = torch.eye(D).repeat(3, 1).expand(2, -1, -1).clone()
    mask_BT = torch.ones(2, 12, dtype=torch.bool)
    mask_BT[1, 8:] = False
    x_BTD[1, 8:] = 1
    return [RollBatch(x_BTD, mask_BT)] * 3


def taught(**settings) -> tuple[dict[str, torch.Tensor], RNNRBM, list[tuple[str, float]]]:
    torch.manual_seed(0)
    model = RNNRBM(Rolls(D), hidden=6, recurrent=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    said: list[tuple[str, float]] = []
    stages = Pretraining(rbm_batch_size=10, **settings)
    for train in (stages.train_rbm, stages.train_rnn):
        train(model, batches(), lambda metric, epoch, epochs, value: said.append((metric, value)))
    return before, model, said


def moved(before: dict[str, torch.Tensor], model: RNNRBM) -> set[str]:
    after = model.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def test_the_first_stage_teaches_the_rbm_single_frames() -> None:
    before, model, said = taught(rbm_epochs=300, rbm_lr=0.5, rnn_epochs=0)
    assert moved(before, model) == RBM_PART
    assert [name for name, _ in said] == ["rbm/reconstruction"] * 300
    p_N = log_weights(*(model.state_dict()[name] for name in ("W_DH", "b_v", "b_h"))).softmax(0)
    one_note = p_N[states(D).sum(1) == 1]
    assert float(one_note.sum()) > 0.7  # independent notes at the data's rates: 0.42
    assert float(one_note.min()) > 0.1


def test_the_second_stage_teaches_the_recurrent_net_to_predict() -> None:
    before, model, said = taught(rbm_epochs=0, rnn_epochs=60, rnn_lr=0.03)
    cell = {f"recurrence.cell.{w}" for w in ("W_vu", "W_uu", "b_u")}
    assert moved(before, model) == cell | {"W_uv"}
    assert [name for name, _ in said] == ["rnn/cross_entropy"] * 60
    # Its first guess is every note at its rate, 2.25 nats; what comes next is then certain but
    # for the first frame.
    assert said[0][1] == pytest.approx(2.25, abs=0.05)
    assert said[-1][1] < 0.5


def test_no_epochs_no_stage() -> None:
    before, model, said = taught(rbm_epochs=0, rnn_epochs=0)
    assert not moved(before, model)
    assert not said
    with pytest.raises(UserError, match="rbm_epochs=-1"):
        Pretraining(rbm_epochs=-1)


def test_a_resumed_run_has_them_behind_it() -> None:
    model = RNNRBM(Rolls(D), hidden=6, recurrent=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.ckpt_path = "last.ckpt"
    Pretraining().on_fit_start(trainer, model)
    assert not moved(before, model)


def test_log_odds_stay_finite() -> None:
    odds_D = log_odds(torch.tensor([[1.0, 0, 1], [1, 0, 0], [1, 0, 0]]))
    expected_D = torch.tensor([3.5 / 4, 0.5 / 4, 1.5 / 4]).logit()
    torch.testing.assert_close(odds_D, expected_D)
