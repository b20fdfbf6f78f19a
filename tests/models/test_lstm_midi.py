"""LSTM on messages: losses, the joint distribution, the recurrent state, generation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from conftest import tune

from musegen.codecs.messages import MessageCodec
from musegen.codecs.midi import tidy, write_notes
from musegen.codecs.midi_layout import layout_of
from musegen.errors import PairingError, UserError
from musegen.models.layers.active_notes import message_ages
from musegen.models.layers.softmax_sampler import Sampler
from musegen.models.lstm_midi import LSTMMidi
from musegen.models.message_picker import MessagePicker
from musegen.models.message_step import MessageStep
from musegen.specs import Frames, MessageBatch, Messages

CODEC = MessageCodec()


def model(**settings) -> LSTMMidi:
    torch.manual_seed(0)
    settings = {"hidden": 16, "layers": 2, "embedding": (8, 4, 4), "head_width": 8, **settings}
    return LSTMMidi(CODEC.spec, CODEC, **settings).eval()


def batch(B: int = 3, T: int = 7, seed: int = 0) -> MessageBatch:
    rng = np.random.default_rng(seed)
    x_BLF = np.stack([rng.integers(0, n, (B, T + 1)) for n in CODEC.spec.sizes], -1)
    return MessageBatch(
        torch.from_numpy(x_BLF), torch.ones(B, T, dtype=torch.bool), torch.ones(B, dtype=torch.bool)
    )


@pytest.mark.parametrize("heads", ["chained", "independent"])
def test_heads_with_zero_weights_are_uniform(heads: str) -> None:
    lstm = model(heads=heads)
    for name, parameter in lstm.heads.named_parameters():
        if "out" in name or "from_state" in name or "active_for_note" in name:
            torch.nn.init.zeros_(parameter)
    losses = {k: float(v.detach()) for k, v in lstm.losses(batch()).items()}
    assert list(losses) == ["note", "velocity", "time"]
    assert losses == pytest.approx(
        dict(zip(losses, np.log(CODEC.spec.sizes), strict=True)), abs=1e-5
    )


@pytest.mark.parametrize("heads", ["chained", "independent"])
def test_the_three_heads_form_a_joint_distribution(heads: str) -> None:
    """Σ over all (note, velocity, time) of exp(−(L_note + L_velocity + L_time)) is 1."""
    spec = Messages(3, 2, 4)
    torch.manual_seed(0)
    lstm = LSTMMidi(spec, None, hidden=8, layers=1, embedding=None, heads=heads, head_width=4)
    lstm.eval()
    all_messages = torch.tensor(list(itertools.product(range(3), range(2), range(4))))
    past = torch.tensor([[3, 2, 4], [1, 0, 2]]).expand(len(all_messages), -1, -1)
    x_BLF = torch.cat([past, all_messages[:, None]], 1)
    mask_BT = torch.tensor([[False, True]]).expand(len(all_messages), -1)
    nll_NF, _, _ = lstm.nll(MessageBatch(x_BLF, mask_BT, torch.ones(len(all_messages)) > 0), "test")
    assert float(nll_NF.detach().sum(1).neg().exp().sum()) == pytest.approx(1, abs=1e-5)


def test_chained_heads_depend_on_the_preceding_fields_only() -> None:
    lstm = model()
    h_ND, x_NF = torch.randn(1, 16), torch.tensor([[5, 6, 7]])
    active_NQ = torch.zeros(1, 176)
    before = lstm.heads(h_ND, active_NQ, x_NF)
    for field, changes in ((0, (1, 2)), (1, (2,)), (2, ())):
        other = x_NF.clone()
        other[0, field] += 1
        after = lstm.heads(h_ND, active_NQ, other)
        assert [i for i in range(3) if not torch.equal(before[i], after[i])] == list(changes)


def test_padding_is_not_counted() -> None:
    lstm, full = model(), batch()
    padded = MessageBatch(full.x_BLF.clone(), full.mask_BT.clone(), full.fresh_B)
    padded.mask_BT[1, 3:] = False
    padded.x_BLF[1, 4:] = torch.tensor(CODEC.spec.sizes)
    single = MessageBatch(full.x_BLF[1:2, :4], full.mask_BT[1:2, :3], full.fresh_B[1:2])
    nll_NF, _, _ = lstm.nll(padded, "test")
    expected, _, _ = lstm.nll(single, "val")
    torch.testing.assert_close(nll_NF[7:10], expected)
    assert lstm.num_predictions(padded) == len(nll_NF) == 17


def test_a_batch_without_predictions_has_loss_0() -> None:
    idle = batch()._replace(mask_BT=torch.zeros(3, 7, dtype=torch.bool))
    loss = sum(model().losses(idle).values())
    assert float(loss.detach()) == 0


def test_two_windows_with_the_state_between_equal_one_long_sequence() -> None:
    lstm, whole = model(), batch(T=8)
    expected, _, _ = lstm.nll(whole, "test")
    lstm.on_validation_epoch_start()
    halves = [
        MessageBatch(whole.x_BLF[:, s : s + 5], whole.mask_BT[:, :4], torch.tensor([s == 0] * 3))
        for s in (0, 4)
    ]
    nll = [lstm.nll(half, "val")[0].view(3, 4, 3) for half in halves]
    torch.testing.assert_close(torch.cat(nll, 1), expected.view(3, 8, 3))


def test_ages_of_the_sounding_notes() -> None:
    lstm = model()
    before = list(CODEC.spec.sizes)
    x_BTF = torch.tensor([[before, [5, 9, 0], [7, 3, 1], [5, 0, 2], [5, 4, 0], [8, 0, 0]]])
    age_BTP = message_ages(x_BTF, torch.zeros(1, 88))
    state = lstm(x_BTF)[2]
    ages = [{p: int(row[p]) for p in row.nonzero()[:, 0].tolist()} for row in age_BTP[0]]
    assert ages == [{}, {5: 1}, {5: 2, 7: 1}, {7: 2}, {5: 1, 7: 3}, {5: 2, 7: 4}]
    age_BTP = message_ages(torch.tensor([[[7, 0, 0]]]), state.age_BP)
    assert age_BTP[0, 0].nonzero().tolist() == [[5]]
    assert age_BTP[0, 0, 5] == 3


def test_only_fresh_rows_reset_the_state() -> None:
    lstm, first, second = model(), batch(seed=1), batch(seed=2)
    fresh, _, _ = lstm.nll(second, "test")
    lstm.nll(first, "val")
    mixed = second._replace(fresh_B=torch.tensor([True, False, True]))
    nll, _, _ = lstm.nll(mixed, "val")
    equal = [
        torch.allclose(a, b) for a, b in zip(fresh.view(3, 7, 3), nll.view(3, 7, 3), strict=True)
    ]
    assert equal == [True, False, True]


def test_no_gradients_flow_into_the_previous_batch() -> None:
    lstm = attentive()
    lstm.nll(batch(seed=1), "train")
    *cells, past = lstm._carried["train"]
    assert not any(part.requires_grad for part in (*cells, *past))


def test_a_repeated_pattern_is_learned() -> None:
    lstm = model(hidden=32, dropout=0.0).train()
    loop = torch.tensor([[40, 10, 5], [40, 0, 20], [44, 12, 0], [44, 0, 20]])
    x_BLF = loop.repeat(6, 1)[None].repeat(4, 1, 1)
    rows = MessageBatch(x_BLF, torch.ones(4, 23, dtype=torch.bool), torch.ones(4) > 0)
    adam = torch.optim.Adam(lstm.parameters(), 0.02)
    for _ in range(120):
        loss = sum(lstm.losses(rows).values())
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert float(loss.detach()) < 0.5


def test_generation_depends_on_its_seed_alone() -> None:
    lstm = model().train()
    state = torch.get_rng_state()
    pieces = lstm.generate(n=3, length=50, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert lstm.training
    assert len(pieces) == 3
    for piece in pieces:
        np.testing.assert_array_equal(tidy(piece), piece)
    same, other = lstm.generate(3, 50, seed=1), lstm.generate(3, 50, seed=2)
    assert all(np.array_equal(a, b) for a, b in zip(pieces, same, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(pieces, other, strict=True))
    assert not np.array_equal(pieces[0], pieces[1])


def test_samples_follow_the_distribution_of_the_loss() -> None:
    """Frequencies of the first message, compared with the network's exact distribution."""
    spec_codec = MessageCodec(pitch_range=(60, 63), velocity_bins=1, time_bins=2)
    torch.manual_seed(0)
    lstm = LSTMMidi(spec_codec.spec, spec_codec, hidden=8, layers=1, embedding=(4, 4, 4))
    lstm.eval()
    all_messages = torch.tensor(list(itertools.product(*map(range, spec_codec.spec.sizes))))
    start = torch.tensor([spec_codec.spec.sizes]).expand(len(all_messages), 1, 3)
    yes_B = torch.ones(len(all_messages), dtype=torch.bool)
    rows = MessageBatch(torch.cat([start, all_messages[:, None]], 1), yes_B[:, None], yes_B)
    exact = lstm.nll(rows, "test")[0].sum(1).neg().exp()
    h_BTD, active_BTQ, _ = lstm(start[:1])
    picker = MessagePicker(Sampler(), torch.Generator().manual_seed(0), None, None)
    with torch.inference_mode():
        h_BD, active_BQ = h_BTD[0].expand(40_000, -1), active_BTQ[0].expand(40_000, -1)
        drawn = lstm.heads.drawing()(h_BD, active_BQ, picker.pick)
    index = (drawn[:, 0] * 2 + drawn[:, 1]) * 3 + drawn[:, 2]
    frequencies = torch.bincount(index, minlength=len(all_messages)) / 40_000
    torch.testing.assert_close(frequencies, exact.detach(), atol=0.01, rtol=0)


def test_prime(tmp_path) -> None:
    lstm = model()
    for weight in lstm.parameters():  # an untrained network depends little on its input
        weight.data *= 4
    write_notes(tune(2), tmp_path / "my.mid")
    longer = lstm.generate(1, 30, prime=tmp_path / "my.mid", include_prime=True, seed=4)[0]
    without = lstm.generate(1, 30, prime=tmp_path / "my.mid", seed=4)[0]
    unprimed = lstm.generate(1, 30, seed=4)[0]
    assert longer["pitch"][:40].tolist() == tune(2)["pitch"].tolist()
    assert len(without) < 31 < len(longer)
    middle = float(tune(2)["start"][20])
    cut = lstm.generate(
        1, 30, prime=tmp_path / "my.mid", prime_seconds=middle, include_prime=True, seed=4
    )[0]
    assert cut["pitch"][:20].tolist() == tune(2)["pitch"][:20].tolist()
    assert len(cut) < 51
    assert not np.array_equal(without, unprimed)


def attentive(**settings) -> LSTMMidi:
    lstm = model(attention_heads=2, attention_span=5, **settings)
    assert lstm.attention is not None
    torch.nn.init.normal_(lstm.attention.out.weight)
    return lstm


def test_attention_is_carried_from_window_to_window() -> None:
    lstm, whole = attentive(), batch(T=8)
    expected, _, _ = lstm.nll(whole, "test")
    halves = [
        MessageBatch(whole.x_BLF[:, s : s + 5], whole.mask_BT[:, :4], torch.tensor([s == 0] * 3))
        for s in (0, 4)
    ]
    nll = [lstm.nll(half, "val")[0].view(3, 4, 3) for half in halves]
    torch.testing.assert_close(torch.cat(nll, 1), expected.view(3, 8, 3))
    later, _, _ = lstm.nll(whole._replace(fresh_B=torch.tensor([True, False, True])), "val")
    same = [torch.allclose(a, b) for a, b in zip(later.split(8), expected.split(8), strict=True)]
    assert same == [True, False, True]
    lstm.nll(whole, "train")
    again = attentive()
    again.load_training_state(lstm.training_state())
    continued = whole._replace(fresh_B=torch.zeros(3, dtype=torch.bool))
    torch.testing.assert_close(again.nll(continued, "train")[0], lstm.nll(continued, "train")[0])


def test_steps_with_attention_equal_a_sequence() -> None:
    lstm, rows = attentive(), batch(T=9)
    _, _, state = lstm(rows.x_BLF[:, :2])
    expected, _, _ = lstm(rows.x_BLF[:, 2:], state)
    cells = state._replace(h=state.h.unbind(), c=state.c.unbind())
    step = MessageStep(lstm)
    with torch.inference_mode():
        for t in range(8):
            y_BD, _, cells = step(rows.x_BLF[:, 2 + t], cells)
            torch.testing.assert_close(y_BD, expected[:, t], atol=1e-5, rtol=1e-5)
    (piece,) = lstm.generate(1, 40)
    assert len(piece)


def test_repeated_histories_change_what_is_read_in_training_and_not_the_targets() -> None:
    lstm, rows = model(repeated_histories=1.0), batch(T=200)
    plain_NF, _, x_NF = lstm.nll(rows, "val")
    torch.manual_seed(0)
    repeated_NF, _, targets_NF = lstm.nll(rows, "train")
    assert torch.equal(targets_NF, x_NF)
    assert not torch.allclose(repeated_NF, plain_NF)
    assert torch.equal(lstm.nll(rows, "test")[0], plain_NF)


BEATS = MessageCodec(time_unit="beats")


def in_beats(**settings) -> LSTMMidi:
    torch.manual_seed(0)
    settings = {"hidden": 16, "embedding": (8, 4, 4), "head_width": 8, **settings}
    return LSTMMidi(BEATS.spec, BEATS, **settings).eval()


def clocked(batch: MessageBatch, bar: int = 72) -> MessageBatch:
    """The batch with the clock of its own times, from a bar line on."""
    x_BLF = batch.x_BLF.clone()
    x_BLF[..., 2] %= BEATS.spec.times
    x_BLF[:, 0] = torch.tensor(BEATS.spec.sizes)
    ticks_BL = torch.as_tensor(BEATS.ticks)[x_BLF[:, 1:, 2]].cumsum(1)
    place_BL = torch.nn.functional.pad(ticks_BL % bar, (1, 0))
    clock_BLC = torch.stack([place_BL, torch.full_like(place_BL, bar)], -1)
    return batch._replace(x_BLF=x_BLF, clock_BLC=clock_BLC)


def test_the_clock_is_read_and_only_of_the_past() -> None:
    lstm, rows = in_beats(), clocked(batch(B=1, T=6))
    assert rows.clock_BLC is not None
    nll_TF, _, _ = lstm.nll(rows, "test")
    for changed in range(7):
        clock_BLC = rows.clock_BLC.clone()
        clock_BLC[0, changed, 0] = (clock_BLC[0, changed, 0] + 5) % 72
        after_TF, _, _ = lstm.nll(rows._replace(clock_BLC=clock_BLC), "val")
        assert (after_TF != nll_TF).any(1).tolist() == [t >= changed for t in range(6)]
        lstm.on_validation_epoch_start()
    with torch.inference_mode():
        _, _, state = lstm(rows.x_BLF[:, :6], None, None, rows.clock_BLC[:, :6])
        expected, _, _ = lstm(rows.x_BLF[:, 6:], state, None, rows.clock_BLC[:, 6:])
        cells = state._replace(h=state.h.unbind(), c=state.c.unbind())
        y_BD, _, _ = MessageStep(lstm)(rows.x_BLF[:, 6], cells, None, rows.clock_BLC[:, 6])
        torch.testing.assert_close(y_BD, expected[:, 0], atol=1e-5, rtol=1e-5)
    without = in_beats(clock_dim=0)
    unclocked = without.nll(rows._replace(clock_BLC=None), "val")[0]
    torch.testing.assert_close(without.nll(rows, "test")[0], unclocked)


def recorded_steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What each step of generation is given from now on: (x_BF, state, label, clock, match)."""
    given, step = [], MessageStep.__call__

    def recorded(self, *arguments):
        given.append(arguments)
        return step(self, *arguments)

    monkeypatch.setattr(MessageStep, "__call__", recorded)
    return given


def test_the_clock_of_a_generated_piece_is_that_of_its_messages(monkeypatch) -> None:
    """The clocks that the steps were given equal those of a batch made of the drawn messages."""
    given = recorded_steps(monkeypatch)
    in_beats().generate(2, 20, time_signature=(3, 4), seed=1)
    x, _, _, clock, _ = zip(*given, strict=True)
    x_BLF = torch.stack([x[0], *x], 1)
    expected = clocked(MessageBatch(x_BLF, x_BLF[:, 1:, 0] >= 0, x_BLF[:, 0, 0] >= 0))
    assert expected.clock_BLC is not None
    torch.testing.assert_close(torch.stack(clock, 1), expected.clock_BLC[:, 1:])


def test_generated_pieces_have_a_time_signature_and_a_tempo(tmp_path) -> None:
    lstm = in_beats()
    assert layout_of(lstm.generate(1, 9)[0]).time_signature == (4, 4)
    lstm.losses(clocked(batch(), bar=36))
    lstm.losses(clocked(batch(), bar=36))
    lstm.losses(clocked(batch(), bar=96))
    (piece,) = lstm.generate(1, 9)
    assert layout_of(piece).time_signature == (3, 8)  # the most frequent one in training
    assert layout_of(piece).seconds_per_beat == 0.5
    assert LSTMMidi(BEATS.spec, BEATS, hidden=16).state_dict().keys() >= {"bars_L"}
    (slow,) = lstm.generate(1, 9, tempo=60, time_signature=(2, 4))
    assert layout_of(slow).time_signature == (2, 4)
    (fast,) = lstm.generate(1, 9, tempo=120, time_signature=(2, 4))
    np.testing.assert_allclose(slow["end"], 2 * fast["end"])
    write_notes(slow, tmp_path / "slow.mid")
    (primed,) = lstm.generate(1, 9, prime=tmp_path / "slow.mid")
    assert layout_of(primed).time_signature == (2, 4)
    assert layout_of(primed).seconds_per_beat == pytest.approx(1.0)
    for wrong in ((0, 4), (3, 5)):
        with pytest.raises(UserError, match="time_signature="):
            lstm.generate(1, 9, time_signature=wrong)


def test_generation_settings_out_of_range(tmp_path) -> None:
    write_notes(tune(0)[:0], tmp_path / "empty.mid")
    for settings, message in (
        ({"n": 0}, "n=0"),
        ({"length": 0}, "length=0"),
        ({"prime": tmp_path / "none.mid"}, "none.mid"),
        ({"prime": tmp_path / "empty.mid"}, "no notes"),
        ({"temperature": -1.0}, "temperature=-1"),
    ):
        with pytest.raises(UserError, match=message):
            model().generate(**settings)


def test_other_data_and_settings_out_of_range_are_refused() -> None:
    with pytest.raises(
        PairingError, match="reads Messages or Labelled.*, but the data yields Frames"
    ):
        LSTMMidi(Frames(784))  # type: ignore[arg-type]
    for settings, message in (
        ({"hidden": 0}, "hidden=0: should be greater than or equal to 1"),
        ({"head_width": 0}, "head_width=0"),
        ({"active_note_dim": -1}, "active_note_dim=-1"),
        ({"dropout": 1.0}, "dropout=1"),
        ({"hidden": True}, "hidden=True"),
    ):
        with pytest.raises(UserError, match=message):
            model(**settings)
