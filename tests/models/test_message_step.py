"""Single steps of the LSTM on messages, against its forward pass."""

from __future__ import annotations

import pytest
import torch

from musegen.models.layers.softmax_sampler import Sampler
from musegen.models.message_picker import MessagePicker
from musegen.models.message_step import MessageStep
from tests.models.test_lstm_midi import batch, model


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 2, 3, 64])
@pytest.mark.parametrize(
    "settings",
    [{}, {"layers": 1, "active_note_dim": 0}, {"layers": 3, "embedding": None}],
    ids=["default", "one layer", "one-hot"],
)
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "torch"])
@torch.inference_mode()
def test_a_step_equals_a_sequence_of_one(settings: dict, rows: int, compiled: bool) -> None:
    lstm, x_BLF = model(**settings), batch(B=rows, T=8).x_BLF
    _, _, state = lstm(x_BLF[:, :6])
    step, cells = MessageStep(lstm), state._replace(h=state.h.unbind(), c=state.c.unbind())
    assert step.kernels is not None
    if not compiled:
        step.kernels = None
    for t in (6, 7):
        expected, active_BTQ, state = lstm(x_BLF[:, t : t + 1], state)
        y_BD, active_BQ, cells = step(x_BLF[:, t], cells)
        close(y_BD, expected[:, 0])
        close(torch.stack(cells.h), state.h)
        close(torch.stack(cells.c), state.c)
        close(active_BQ, active_BTQ[:, 0])
        assert torch.equal(cells.age_BP, state.age_BP)


@pytest.mark.parametrize("heads", ["chained", "independent"])
@pytest.mark.parametrize("active_note_dim", [0, 8])
@torch.inference_mode()
def test_the_most_likely_message_is_that_of_the_logits(heads: str, active_note_dim: int) -> None:
    lstm = model(heads=heads, active_note_dim=active_note_dim)
    for weight in lstm.parameters():  # an untrained network depends little on its input
        weight *= 4
    h_BTD, active_BTQ, _ = lstm(batch(B=5, T=6).x_BLF)
    h_ND, active_NQ = h_BTD.flatten(0, 1), active_BTQ.flatten(0, 1)
    picker = MessagePicker(Sampler(temperature=0), torch.Generator(), None, None)
    x_NF = lstm.heads.drawing()(h_ND, active_NQ, picker.pick)
    logits = lstm.heads(h_ND, active_NQ, x_NF)
    assert torch.equal(x_NF, torch.stack([z_NV.argmax(-1) for z_NV in logits], -1))
    assert all(len(field_N.unique()) > 1 for field_N in x_NF.unbind(1))
