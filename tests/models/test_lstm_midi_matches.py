"""The longest match and the key in the LSTM on messages."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import torch
from conftest import make_notes

from musegen.codecs.message_matches import MessageHistory
from musegen.codecs.messages import MessageCodec
from musegen.codecs.midi import write_notes
from musegen.models.layers.key_weights import SCALE
from musegen.models.layers.message_match import read_matches
from musegen.models.layers.softmax_sampler import Sampler
from musegen.models.lstm_midi import LSTMMidi
from musegen.models.message_picker import MessagePicker
from musegen.models.message_step import MessageStep
from musegen.specs import MessageBatch
from tests.models.test_lstm_midi import BEATS, batch, clocked, in_beats, recorded_steps

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
    given = recorded_steps(monkeypatch)
    with_matches().generate(3, 150, temperature=0.1, seed=1)
    x, _, _, _, match = zip(*given, strict=True)
    expected = read_matches(MessageHistory(3, BEATS.spec.sizes), torch.stack(x, 1))
    assert torch.equal(torch.stack(match, 1), expected)
    assert int(expected[..., 0].max()) >= 2


def test_samples_with_a_match_follow_the_distribution_of_the_loss() -> None:
    """Frequencies of the next message after a match, compared with the exact distribution."""
    codec = MessageCodec(pitch_range=(60, 63), velocity_bins=1, time_bins=2, longest_match=True)
    torch.manual_seed(0)
    lstm = LSTMMidi(codec.spec, codec, hidden=8, layers=1, embedding=(4, 4, 4)).eval()
    assert lstm.match_logits is not None
    lstm.match_logits.by_level.weight.data[4] = torch.tensor([1.0, 1.5, 2.0])
    every = torch.tensor(list(itertools.product(*map(range, codec.spec.sizes))))
    x_BLF = torch.cat(
        [torch.tensor([codec.spec.sizes]).expand(len(every), 1, 3), every[:, None]], 1
    )
    match_BLM = torch.tensor([4, 1, 0, 2]).expand(len(every), 2, 4)
    yes_B = torch.ones(len(every), dtype=torch.bool)
    batch = MessageBatch(x_BLF, yes_B[:, None], yes_B, match_BLM=match_BLM)
    exact = lstm.nll(batch, "test")[0].sum(1).neg().exp().detach()
    picker = MessagePicker(Sampler(), torch.Generator().manual_seed(0), None, lstm.match_logits)
    with torch.inference_mode():
        h_BTD, active_BTQ, _ = lstm(x_BLF[:1, :1], match_BTM=match_BLM[:1, :1])
        h_BD, active_BQ = h_BTD[0].expand(40_000, -1), active_BTQ[0].expand(40_000, -1)
        picker.begin(h_BD, match_BLM[:1, 0].expand(40_000, -1))
        drawn = lstm.heads.drawing()(h_BD, active_BQ, picker.pick)
    index = (drawn[:, 0] * 2 + drawn[:, 1]) * 3 + drawn[:, 2]
    frequencies = torch.bincount(index, minlength=len(every)) / 40_000
    torch.testing.assert_close(frequencies, exact, atol=0.01, rtol=0)


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


def test_the_key_of_the_prime_is_the_key_of_the_piece(tmp_path: Path) -> None:
    scale = [61 + step for step in SCALE] * 3  # C sharp major
    write_notes(
        make_notes([(t / 2, t / 2 + 0.4, p, 80) for t, p in enumerate(scale)]), tmp_path / "p.mid"
    )
    settings = {"prime": tmp_path / "p.mid", "temperature": 1, "key_strength": 3, "seed": 2}
    pieces = in_beats().generate(8, 20, **settings)
    pitches = np.concatenate([piece["pitch"] for piece in pieces])
    assert np.isin((pitches - 1) % 12, SCALE).mean() > 0.9
