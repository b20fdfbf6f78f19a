"""The RNN-NADE: probabilities against enumeration, sampling, and runs from the command line."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from exact_rbm import states
from torch import Tensor

from datamodules.roll_benchmark import RollBenchmark
from musegen.cli import evaluate, generate
from musegen.cli import train as train_module
from musegen.codecs.midi import write_notes
from musegen.codecs.roll_codec import RollCodec
from musegen.errors import PairingError, UserError
from musegen.metrics.accuracy import frame_accuracy
from musegen.models import load_model
from musegen.models.rnn_nade import RNNNADE
from musegen.specs import Frames, RollBatch, Rolls

pytestmark = pytest.mark.usefixtures("near_matches")

D, H, R = 4, 3, 5
CODEC = RollCodec(pitch_range=(58, 58 + D))
EVERYTHING = {
    "cell": "lstm", "attention_heads": 2, "attention_span": 3, "intervals": True,
    "note_age": True, "clock": True, "metre": True, "longest_match": True,
    "learn_initial_state": True,
}  # fmt: skip
OPTIONS = [
    {}, {"cell": "gru"}, {"attention_heads": 2}, {"note_age": True}, {"clock": True},
    {"longest_match": True}, {"metre": True}, EVERYTHING,
]  # fmt: skip


def tiny(scale: float = 0.7, **settings) -> RNNNADE:
    torch.manual_seed(3)
    model = RNNNADE(Rolls(D), CODEC, hidden=H, recurrent=R, **settings)
    for p in model.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=scale)
    return model


def a_batch(rows: int = 2, length: int = 5, seed: int = 0) -> RollBatch:
    """Sequences of which the last two frames of the second row are padding."""
    g = torch.Generator().manual_seed(seed)
    x_BTD = (torch.rand(rows, length, D, generator=g) < 0.5).float()
    mask_BT = torch.ones(rows, length, dtype=torch.bool)
    mask_BT[1, -2:] = False
    return RollBatch(x_BTD * mask_BT[..., None], mask_BT)


def without_padding(x_BTD: Tensor) -> RollBatch:
    return RollBatch(x_BTD, torch.ones(x_BTD.shape[:2], dtype=torch.bool))


class Data:
    """One batch as every split."""

    def __init__(self, batch: RollBatch) -> None:
        self.batch = batch

    def test_dataloader(self) -> list[RollBatch]:
        return [self.batch]

    def val_dataloader(self) -> list[RollBatch]:
        return [RollBatch(1 - self.batch.x_BTD, self.batch.mask_BT)]


# --- Probabilities ------------------------------------------------------------------------------


def test_each_frame_has_the_papers_biases() -> None:
    model, batch = tiny(), a_batch()
    b_v_ND, b_h_NH = model.all_biases(batch.x_BTD)
    cell, n = model.recurrence.cell, 0
    for row_TD in batch.x_BTD:
        u_R = torch.zeros(R)
        for v_D in row_TD:
            torch.testing.assert_close(b_v_ND[n], model.b_v + u_R @ model.W_zv)
            torch.testing.assert_close(b_h_NH[n], model.b_h + u_R @ model.W_zh)
            u_R = torch.tanh(cell.b_u + v_D @ cell.W_vu + u_R @ cell.W_uu)
            n += 1


@pytest.mark.parametrize("settings", OPTIONS, ids=str)
def test_probabilities_of_all_sequences_sum_to_1(settings: dict) -> None:
    # All sequences of two frames, and all frames after one history.
    model, frame_SD = tiny(**settings), states(D).float()
    pairs_BTD = torch.stack([frame_SD.repeat_interleave(2**D, 0), frame_SD.repeat(2**D, 1)], dim=1)
    with torch.no_grad():
        total = model.log_prob(without_padding(pairs_BTD)).double().sum(1).exp().sum()
        history_BTD = a_batch().x_BTD[:1].expand(2**D, -1, -1)
        after_BTD = torch.cat([history_BTD, frame_SD[:, None]], dim=1)
        last = model.log_prob(without_padding(after_BTD))[:, -1].double().exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-5)
    assert last.item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("settings", OPTIONS, ids=str)
def test_log_p_in_sampling_is_that_of_training(settings: dict) -> None:
    model, prime_BTD = tiny(**settings).eval(), a_batch(rows=6).x_BTD
    with torch.inference_mode():
        for primed in (0, 5):
            sampler = model.frame_sampler(6, primed + 9, 1.0, torch.Generator())
            for frame_BD in prime_BTD[:, :primed].unbind(1):
                sampler.append(frame_BD)
            log_probs = []
            for _ in range(9):
                frame_BD, log_prob_B = sampler.draw()
                sampler.append(frame_BD)
                log_probs.append(log_prob_B)
            x_BTD, log_prob_BT = sampler.x_NTD, torch.stack(log_probs, dim=1)
            assert torch.equal(x_BTD[:, :primed], prime_BTD[:, :primed])
            trained_BT = model.log_prob(without_padding(x_BTD))[:, primed:]
            torch.testing.assert_close(log_prob_BT, trained_BT, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", OPTIONS, ids=str)
def test_nothing_depends_on_later_frames_or_higher_notes(settings: dict) -> None:
    model, x_1TD = tiny(**settings), a_batch(length=8).x_BTD[:1]

    def logits(changed_1TD: Tensor) -> Tensor:
        biases = model.all_biases(changed_1TD)
        return model.nade.sparse_logits(changed_1TD[0], *biases)

    before_TD = logits(x_1TD)
    for t, d in product(range(8), range(D)):
        changed_1TD = x_1TD.clone()
        changed_1TD[:, t, d:] = 1 - changed_1TD[:, t, d:]
        changed_1TD[:, t + 1 :] = 1 - changed_1TD[:, t + 1 :]
        after_TD = logits(changed_1TD)
        torch.testing.assert_close(after_TD[:t], before_TD[:t])
        torch.testing.assert_close(after_TD[t, : d + 1], before_TD[t, : d + 1])
    difference_TD = (after_TD - before_TD).abs()
    assert not difference_TD[:-1].any()


def test_every_optional_input_changes_the_biases() -> None:
    for settings in OPTIONS[2:5]:
        model, x_BTD = tiny(**settings), a_batch(length=9).x_BTD
        b_v_ND, b_h_NH = model.all_biases(x_BTD)
        plain = tiny()
        plain.load_state_dict(
            {k: model.state_dict()[k][tuple(map(slice, v.shape))]
             for k, v in plain.state_dict().items()}
        )  # fmt: skip
        other_v_ND, other_h_NH = plain.all_biases(x_BTD)
        assert not torch.allclose(b_v_ND, other_v_ND)
        assert not torch.allclose(b_h_NH, other_h_NH)


def test_the_age_of_a_note_enters_its_own_bias() -> None:
    model = tiny(note_age=True)
    x_1TD = torch.ones(1, 4, D)
    x_1TD[0, 0, 1] = 0
    b_v_ND, _ = model.all_biases(x_1TD)
    with torch.no_grad():
        model.b_age_AD[3] += 1  # notes of three frames
    b_v_ND = model.all_biases(x_1TD)[0] - b_v_ND
    expected_ND = torch.zeros(4, D)
    expected_ND[3, [0, 2, 3]] = 1
    torch.testing.assert_close(b_v_ND, expected_ND)


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["plain", "everything"])
def test_padding_is_not_counted(settings: dict) -> None:
    model, batch = tiny(**settings), a_batch()
    wider = RollBatch(torch.ones(2, 9, D), torch.zeros(2, 9, dtype=torch.bool))
    wider.x_BTD[:, :5][batch.mask_BT] = batch.x_BTD[batch.mask_BT]
    wider.mask_BT[:, :5] = batch.mask_BT
    found = []
    for same in (batch, wider):
        metric = model.new_metric()
        model.score(same, metric, "val")
        loss = model.losses(same)["nll"]
        grads = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])
        found.append([loss, *grads, *metric.compute().values()])
        assert model.num_predictions(same) == 8
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0][0].double(), -found[0][-1])


def test_frozen_histories_are_inputs_in_training_and_never_targets(monkeypatch) -> None:
    model, batch = tiny(frozen_histories=0.5, flipped_notes=0.1), a_batch()
    assert model.low_pitches == 2  # 58 and 59 are below middle C
    history_BTD = 1 - batch.x_BTD
    calls = []
    monkeypatch.setattr(
        "musegen.models.roll_model.freeze_history", lambda *a: calls.append(a) or history_BTD
    )
    loss = model.losses(batch)["nll"]
    assert calls[0][2:] == (2, 0.5, 0.1)
    log_p_N = model.nade.log_prob(batch.x_BTD.flatten(0, 1), *model.all_biases(history_BTD))
    torch.testing.assert_close(loss, -log_p_N[batch.mask_BT.flatten()].mean())
    model.eval()
    torch.testing.assert_close(
        model.losses(batch)["nll"], -model.log_prob(batch)[batch.mask_BT].mean()
    )
    assert len(calls) == 1


def test_dropout_is_active_in_training_only() -> None:
    model, batch = tiny(dropout=0.5, attention_heads=1, attention_dropout=0.5), a_batch(50)
    assert not torch.equal(*(model.log_prob(batch) for _ in range(2)))
    model.eval()
    assert torch.equal(*(model.log_prob(batch) for _ in range(2)))


def test_log_p_is_in_float32_under_autocast() -> None:
    model, batch = tiny(**EVERYTHING), a_batch()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.log_prob(batch).dtype == torch.float32
        model.losses(batch)["nll"].backward()
    assert bool(model.W_zv.grad.isfinite().all())


# --- Evaluation ---------------------------------------------------------------------------------


def test_likelihood_and_accuracy_of_a_split() -> None:
    model, batch = tiny(scale=1.0, **EVERYTHING).eval(), a_batch(30)
    found = model.assess(Data(batch), samples=400)
    log_prob_BT = model.log_prob(batch).detach()
    assert found["log_likelihood"] == pytest.approx(log_prob_BT[batch.mask_BT].mean().item())
    assert found["frames"] == 148
    frame_SD = states(D).float()
    expected = 0.0
    biases = (b[batch.mask_BT.flatten()].detach() for b in model.all_biases(batch.x_BTD))
    for x_D, b_v, b_h in zip(batch.x_BTD[batch.mask_BT], *biases, strict=True):
        p_S = model.nade.log_prob(frame_SD, b_v.expand(2**D, -1), b_h.expand(2**D, -1)).exp()
        accuracy_S = torch.stack([frame_accuracy(x_D[None], s[None, None])[0] for s in frame_SD])
        expected += (p_S.detach() @ accuracy_S).item()
    assert found["accuracy"] == pytest.approx(expected / 148, abs=0.004)
    assert found == model.assess(Data(batch), samples=400)
    other = model.assess(Data(batch), split="val", samples=0)
    assert other["log_likelihood"] != found["log_likelihood"]
    assert "accuracy" not in other
    with pytest.raises(UserError, match="samples=-1"):
        model.assess(Data(batch), samples=-1)


# --- Generation ---------------------------------------------------------------------------------


def test_generation_is_reproducible_and_changes_no_state() -> None:
    model = tiny(dropout=0.5, **EVERYTHING)
    random = torch.get_rng_state()
    pieces = model.generate(3, length=12, seed=4)
    assert len(pieces) == 3
    assert all(notes["end"].max() <= 12 * CODEC.dt + 1e-9 for notes in pieces)
    again = model.generate(3, length=12, seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(pieces, again, strict=True))
    other = model.generate(3, length=12, seed=5)
    assert not all(np.array_equal(a, b) for a, b in zip(pieces, other, strict=True))
    assert not all(np.array_equal(a, pieces[0]) for a in pieces[1:])
    assert torch.equal(random, torch.get_rng_state())
    assert model.training


def test_temperature_divides_the_logits() -> None:
    model = tiny(scale=0.0)
    with torch.no_grad():
        model.b_v.fill_(4.0)
    for temperature in (1.0, 2.0):
        pieces = model.generate(500, length=1, temperature=temperature)
        fraction = sum(len(notes) for notes in pieces) / (500 * D)
        p = 1 / (1 + np.exp(-4 / temperature))
        assert fraction == pytest.approx(p, abs=5 * np.sqrt(p * (1 - p) / (500 * D)))


def test_repeated_notes_are_sustained_or_retriggered() -> None:
    model = tiny(scale=0.0)
    torch.nn.init.constant_(model.b_v, 50.0)
    (sustained,) = model.generate(1, length=5)
    (retriggered,) = model.generate(1, length=5, repeats="retrigger")
    assert (len(sustained), len(retriggered)) == (D, 5 * D)


@pytest.mark.parametrize("settings", [{}, EVERYTHING], ids=["plain", "everything"])
def test_generation_continues_a_prime(settings: dict, tmp_path: Path) -> None:
    model = tiny(**settings)
    prime_TD = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.uint8)
    write_notes(CODEC.decode(prime_TD), tmp_path / "prime.mid")
    (alone,) = model.generate(1, length=30, prime=tmp_path / "prime.mid", seed=1)
    (after,) = model.generate(
        1, length=30, prime=tmp_path / "prime.mid", include_prime=True, seed=1, repeats="retrigger"
    )
    (unprimed,) = model.generate(1, length=30, seed=1)
    assert np.array_equal(CODEC.encode(after)[:3], prime_TD)
    assert np.array_equal(CODEC.encode(after)[3:], CODEC.encode(alone))
    assert not np.array_equal(alone, unprimed)
    (cut,) = model.generate(
        1, length=30, prime=tmp_path / "prime.mid", prime_seconds=2 * CODEC.dt, include_prime=True
    )
    assert len(CODEC.encode(cut)) <= 32
    assert np.array_equal(CODEC.encode(cut)[:2], prime_TD[:2])
    with pytest.raises(UserError, match="prime_seconds=0"):
        model.generate(prime=tmp_path / "prime.mid", prime_seconds=0)
    low_TD = np.eye(88, dtype=np.uint8)[:5]
    write_notes(RollCodec().decode(low_TD), tmp_path / "low.mid")
    with pytest.raises(UserError, match=r"low\.mid: no notes"):
        model.generate(prime=tmp_path / "low.mid")


def test_generation_reads_each_frame_once() -> None:
    """All pieces side by side, and no frame again for a later one."""
    model = tiny(cell="lstm", attention_heads=2, note_age=True, clock=True)
    read = []
    model.recurrence.register_forward_hook(lambda _, inputs, __: read.append(inputs[0].shape[:2]))
    model.generate(8, length=64)
    assert read == [(8, 1)] * 64


# --- Settings and runs --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"hidden": 0}, {"recurrent": 0}, {"dropout": 1.0}, {"attention_heads": -1},
              {"attention_span": 0}, {"attention_dropout": -0.1}, {"frozen_histories": 1.5},
              {"flipped_notes": 1.5}],
)  # fmt: skip
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(UserError, match=f"{name}={value}: should be "):
        RNNNADE(Rolls(D), **wrong)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"length": 0}, {"temperature": 0.0}])
def test_generation_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        tiny().generate(**wrong)


def test_other_specs_are_refused() -> None:
    with pytest.raises(PairingError, match="rnn_nade reads Rolls"):
        RNNNADE(Frames(88))


def a_benchmark(self: RollBenchmark) -> dict[str, list[np.ndarray]]:
    """Scales that rise and fall."""
    scale_TD = np.eye(88, dtype=np.uint8)[np.r_[30:50, 50:30:-1]]
    lengths = {"train": (40, 25, 33), "val": (17, 9), "test": (21, 8)}
    return {split: [scale_TD[:n] for n in counts] for split, counts in lengths.items()}


def test_a_run_from_the_command_line(cli, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(RollBenchmark, "read", a_benchmark)
    run = tmp_path / "run"
    code, out, err = cli(
        train_module.main, "model=rnn_nade", "data=jsb", "model.hidden=8", "model.recurrent=6",
        "model.cell=gru", "model.attention_heads=1", "model.note_age=true", "model.clock=true",
        "model.frozen_histories=0.2", "trainer.max_epochs=2", "data.batch_size=2",
        "data.chunk_length=16", "assess.samples=5", "sample.length=30", f"hydra.run.dir={run}",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads((run / "test.json").read_text())
    assert {"log_likelihood", "accuracy", "note_1gram_log_likelihood"} <= set(found)
    header = set((run / "metrics.csv").read_text().splitlines()[0].split(","))
    assert {"train/loss", "val/log_likelihood"} <= header
    assert {p.suffix for p in (run / "samples").iterdir()} == {".mid", ".wav", ".png"}
    assert isinstance(load_model(run / "checkpoints" / "best.ckpt"), RNNNADE)

    code, out, err = cli(evaluate.main, f"run={run}")
    assert code == 0, err
    assert json.loads((run / "test.json").read_text()) == found
    code, out, err = cli(generate.main, f"run={run}", "n=2", "length=9", "repeats=retrigger")
    assert code == 0, err
    assert len(out.splitlines()) == 2
