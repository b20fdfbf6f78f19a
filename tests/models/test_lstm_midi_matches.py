"""The longest match and the key in the LSTM on messages."""

from __future__ import annotations

import numpy as np
import torch

from musegen.codecs.message_matches import MessageHistory
from musegen.codecs.messages import MessageCodec
from musegen.models.layers.key_weights import SCALE
from musegen.models.layers.message_match import read_matches
from musegen.models.lstm_midi import LSTMMidi
from musegen.models.message_step import MessageStep
from musegen.specs import MessageBatch
from tests.models.test_lstm_midi import BEATS, batch, clocked, in_beats

MATCHED = MessageCodec(time_unit="beats", longest_match=True)


def matched(rows: MessageBatch) -> MessageBatch:
    """The batch with the matches of its own messages."""
    history = MessageHistory(len(rows.x_BLF), BEATS.spec.sizes)
    return rows._replace(match_BLM=read_matches(history, rows.x_BLF))


def with_matches(**settings) -> LSTMMidi:
    torch.manual_seed(0)
    settings = {"hidden": 16, "embedding": (8, 4, 4), "head_width": 8, **settings}
    lstm = LSTMMidi(MATCHED.spec, MATCHED, **settings).eval()
    assert lstm.match_logits is not None
    for weight in lstm.match_logits.parameters():
        torch.nn.init.normal_(weight)
    return lstm


def repetitive(B: int = 2) -> MessageBatch:
    """Five messages, four times."""
    rows = batch(B=B, T=20)
    rows.x_BLF[:, 1:] = rows.x_BLF[:, 1:6].repeat(1, 4, 1)
    return matched(clocked(rows))


def test_the_matches_are_read_and_only_of_the_past() -> None:
    lstm, rows = with_matches(), repetitive(1)
    assert rows.match_BLM is not None
    assert (rows.match_BLM[0, 12:, 0] > 0).all()
    nll_TF, _, _ = lstm.nll(rows, "test")
    for changed in (14, 18, 20):
        match_BLM = rows.match_BLM.clone()
        match_BLM[0, changed] = torch.tensor([0, *BEATS.spec.sizes])
        after_TF, _, _ = lstm.nll(rows._replace(match_BLM=match_BLM), "val")
        assert (after_TF != nll_TF).any(1).tolist() == [t >= changed for t in range(20)]
        lstm.on_validation_epoch_start()


@torch.inference_mode()
def test_a_step_with_matches_equals_a_sequence_of_one() -> None:
    lstm, rows = with_matches(layers=2), repetitive(3)
    assert rows.clock_BLC is not None
    assert rows.match_BLM is not None
    given = rows.x_BLF, rows.clock_BLC, rows.match_BLM
    x, clock, match = (part[:, :17] for part in given)
    _, _, state = lstm(x, None, None, clock, match)
    x, clock, match = (part[:, 17] for part in given)
    expected, _, _ = lstm(x[:, None], state, None, clock[:, None], match[:, None])
    cells = state._replace(h=state.h.unbind(), c=state.c.unbind())
    y_BD, _, _ = MessageStep(lstm)(x, cells, None, clock, match)
    torch.testing.assert_close(y_BD, expected[:, 0], atol=1e-5, rtol=1e-5)


def test_the_matches_of_a_generated_piece_are_those_of_its_messages(monkeypatch) -> None:
    lstm, given, drawn = with_matches(), [], []
    step = MessageStep.__call__

    def recorded(self, x_BF, state, label_B, clock_BC, match_BM):
        drawn.append(x_BF.clone())
        given.append(match_BM.clone())
        return step(self, x_BF, state, label_B, clock_BC, match_BM)

    monkeypatch.setattr(MessageStep, "__call__", recorded)
    lstm.generate(3, 150, temperature=0.1, seed=1)
    x_BLF = torch.stack(drawn, 1)
    expected = read_matches(MessageHistory(3, BEATS.spec.sizes), x_BLF)
    assert torch.equal(torch.stack(given, 1), expected)
    assert int(expected[..., 0].max()) >= 2


def test_training_drops_matches_of_some_rows_and_evaluation_none() -> None:
    rows = repetitive(8)
    lstm = with_matches(match_dropout=1.0, dropout=0.0)
    none = rows._replace(match_BLM=torch.tensor([0, *BEATS.spec.sizes]).expand(8, 21, 4))
    assert torch.equal(lstm.nll(rows, "train")[0], lstm.nll(none, "test")[0])
    assert not torch.equal(lstm.nll(rows, "test")[0], lstm.nll(none, "val")[0])


def test_a_key_strength_keeps_the_first_notes_in_a_scale() -> None:
    """Later most pitches of an untrained model sound, and notes that sound get no weight."""

    def share(strength: float) -> float:
        pieces = in_beats().generate(8, 40, temperature=1, key_strength=strength, seed=2)
        pitches = [piece["pitch"] for piece in pieces]
        return float(
            np.mean([max(np.isin((p - k) % 12, SCALE).mean() for k in range(12)) for p in pitches])
        )

    assert share(0) < 0.75
    assert share(3) > 0.9
