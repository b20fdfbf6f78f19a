"""The biaxial LSTM: probabilities against sums over all frames, and what they may depend on."""

from __future__ import annotations

import csv
import itertools
import json
import math

import numpy as np
import pytest
import torch
from test_rnn_rbm import Data, printed_metrics, scales

from datamodules.roll_benchmark import RollBenchmark
from musegen.cli import evaluate, generate
from musegen.cli import train as train_module
from musegen.codecs.midi import write_notes
from musegen.codecs.roll_codec import RollCodec
from musegen.errors import PairingError, UserError
from musegen.metrics.accuracy import frame_accuracy
from musegen.models import load_model
from musegen.models.biaxial_lstm import BiaxialLSTM
from musegen.models.layers.frame_distribution import OUTSIDE_LOGIT, FrameDistribution
from musegen.specs import Frames, RollBatch, Rolls

pytestmark = pytest.mark.usefixtures("near_matches")

D = 6
CODEC = RollCodec(pitch_range=(57, 57 + D))
PLAIN = {"pitch_classes": False, "note_age": False, "clock": False, "absolute_pitch": False,
         "global_hidden": 0, "attention_heads": 0}  # fmt: skip
FULL = {"global_hidden": 5, "attention_heads": 2}
SETTINGS = [
    PLAIN, FULL, PLAIN | {"attention_heads": 2, "attention_span": 3}, FULL | {"low": 1, "high": 5},
    FULL | {"window": 0, "notes_below": 0}, PLAIN | {"longest_match": True},
    FULL | {"longest_match": True}, FULL | {"attention_heads": 0, "clock": False},
    FULL | {"metre": True}, PLAIN | {"metre": True}, FULL | {"fine_ages": True},
    FULL | {"chord_below": True, "low": 1}, PLAIN | {"chord_below": True, "notes_below": 0},
]  # fmt: skip


def tiny(scale: float = 0.5, pitches: int = D, **settings) -> BiaxialLSTM:
    torch.manual_seed(3)
    sizes = {"hidden": 4, "note_hidden": 3, "features": 5, "window": 2, "notes_below": 3}
    model = BiaxialLSTM(Rolls(pitches), CODEC, **{**sizes, **FULL, **settings})
    for p in model.parameters():
        torch.nn.init.normal_(p, std=scale)
    return model.eval()


def a_batch(rows: int = 2, length: int = 5, pitches: int = D, seed: int = 0) -> RollBatch:
    """Sequences of which the last two frames of the second row are padding."""
    g = torch.Generator().manual_seed(seed)
    x_BTD = (torch.rand(rows, length, pitches, generator=g) < 0.4).float()
    mask_BT = torch.ones(rows, length, dtype=torch.bool)
    mask_BT[1, -2:] = False
    return RollBatch(x_BTD * mask_BT[..., None], mask_BT)


def all_frames(pitches: int = D) -> torch.Tensor:
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=pitches)))


def without_padding(x_BTD: torch.Tensor) -> RollBatch:
    return RollBatch(x_BTD, torch.ones(x_BTD.shape[:2], dtype=torch.bool))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_probabilities_of_all_frames_sum_to_one(settings: dict) -> None:
    model, past_TD = tiny(**settings), a_batch().x_BTD[0]
    v_ND = all_frames()
    x_NTD = torch.cat([past_TD.expand(len(v_ND), -1, -1), v_ND[:, None]], dim=1)
    log_prob_NT = model.log_prob(without_padding(x_NTD))
    assert float(log_prob_NT[:, -1].exp().sum()) == pytest.approx(1, abs=1e-5)
    # All sequences of two frames.
    pairs_NTD = torch.stack([v_ND.repeat_interleave(64, 0), v_ND.repeat(64, 1)], dim=1)
    total = model.log_prob(without_padding(pairs_NTD)).sum(1).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_log_p_in_sampling_is_that_of_training(settings: dict, tmp_path, monkeypatch) -> None:
    model, samples, original = tiny(**settings), [], FrameDistribution.sample
    prime_TD = np.eye(D, dtype=np.uint8)[[1, 2, 2, 4]]
    write_notes(CODEC.decode(prime_TD), tmp_path / "prime.mid")

    def recorded(*arguments):
        samples.append(original(*arguments))
        return samples[-1]

    monkeypatch.setattr(FrameDistribution, "sample", recorded)
    model.generate(2, length=9, prime=tmp_path / "prime.mid")
    sampled_NTD = torch.cat([x for x, _ in samples]).transpose(0, 1)
    prime_NTD = torch.from_numpy(prime_TD).float().expand(2, -1, -1)
    trained_NT = model.log_prob(without_padding(torch.cat([prime_NTD, sampled_NTD], dim=1)))
    sampled_NT = torch.cat([log_prob for _, log_prob in samples]).t()
    torch.testing.assert_close(trained_NT[:, 4:], sampled_NT, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_nothing_depends_on_later_frames_or_higher_notes(settings: dict) -> None:
    model, (x_BTD, _) = tiny(**settings), a_batch(rows=2, length=6)
    x_BTD = x_BTD[:1]
    before_T = model.log_prob(without_padding(x_BTD))[0]
    for t in range(6):
        other_BTD = x_BTD.clone()
        other_BTD[:, t] = 1 - other_BTD[:, t]
        changed_T = model.log_prob(without_padding(other_BTD))[0] != before_T
        assert not changed_T[:t].any()
        assert changed_T[t:].all()  # later frames depend on it
    c_NPC, x_ND = model.contexts(x_BTD)[3], x_BTD[:, 3]
    logit_P = model.frame_distribution.logits(c_NPC, x_ND)[:, 0]
    for p, d in enumerate(range(model.low, model.high)):
        other_ND = x_ND.clone()
        other_ND[:, d] = 1 - other_ND[:, d]
        changed_P = model.frame_distribution.logits(c_NPC, other_ND)[:, 0] != logit_P
        assert not changed_P[: p + 1].any()
        reads_lower = model.notes_below > 0 or model.chord_below
        assert changed_P[p + 1 :].any() == (p + 1 < len(changed_P) and reads_lower)


EQUIVARIANT = {"absolute_pitch": False, "global_hidden": 0}


@pytest.mark.parametrize(
    "settings",
    [
        {"attention_heads": 0},
        {"attention_heads": 0, "longest_match": True},
        {},
        {"longest_match": True},
        {"chord_below": True},
    ],
    ids=str,
)
def test_a_transposed_piece_has_the_same_likelihood(settings: dict) -> None:
    model = tiny(0.3, 88, **{**EQUIVARIANT, **settings})
    with torch.no_grad():  # so that it forgets its initial state within thirty silent pitches
        model.note_lstm.bias_ih_l0.view(4, -1)[1] -= 2
    x_1TD = torch.zeros(1, 20, 88)
    x_1TD[..., 50:65] = a_batch(length=20, pitches=15).x_BTD[:1]
    transposed_1TD = x_1TD.roll(7, -1)

    @torch.no_grad()
    def log_prob_TD(x_1TD: torch.Tensor) -> torch.Tensor:
        logit_DT = model.frame_distribution.logits(model.contexts(x_1TD)[:, 0], x_1TD[0])
        return -torch.nn.functional.softplus((1 - 2 * x_1TD[0]) * logit_DT.t())

    original_TD, transposed_TD = log_prob_TD(x_1TD), log_prob_TD(transposed_1TD)
    middle = slice(37, 80)
    torch.testing.assert_close(
        original_TD[:, middle], transposed_TD.roll(-7, -1)[:, middle], atol=1e-5, rtol=0
    )
    original = original_TD[:, middle].sum()
    transposed = transposed_TD.roll(-7, -1)[:, middle].sum()
    assert float(original) == pytest.approx(float(transposed), rel=1e-5)
    torch.testing.assert_close(
        original_TD.sum(1), model.log_prob(without_padding(x_1TD))[0], atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("absolute", [{"absolute_pitch": True}, {"global_hidden": 5}], ids=str)
def test_absolute_inputs_depend_on_the_key(absolute: dict) -> None:
    model = tiny(0.3, 88, **(EQUIVARIANT | absolute))
    x_1TD = torch.zeros(1, 20, 88)
    x_1TD[..., 50:65] = a_batch(length=20, pitches=15).x_BTD[:1]
    original, transposed = (
        model.log_prob(without_padding(x)).sum() for x in (x_1TD, x_1TD.roll(7, -1))
    )
    assert abs(float(original - transposed)) > 0.02


def test_padding_is_not_counted() -> None:
    model, batch = tiny(), a_batch()
    wider = RollBatch(torch.ones(2, 9, D), torch.zeros(2, 9, dtype=torch.bool))
    wider.x_BTD[:, :5][batch.mask_BT] = batch.x_BTD[batch.mask_BT]
    wider.mask_BT[:, :5] = batch.mask_BT
    found = []
    for same in (batch, wider):
        metric = model.new_metric()
        model.score(same, metric, "val")
        loss = model.losses(same)["nll"]
        found.append([loss, metric.compute()["nll"].float(), *torch.autograd.grad(
            loss, [model.embed.weight, model.note_lstm.weight_hh_l0])])  # fmt: skip
        assert model.num_predictions(same) == 8
    torch.testing.assert_close(found[0], found[1])
    torch.testing.assert_close(found[0][0], found[0][1])
    log_prob_BT = model.log_prob(wider)
    assert not log_prob_BT[~wider.mask_BT].any()
    assert found[0][0].item() == pytest.approx(-float(log_prob_BT.sum()) / 8)


def test_blocks_of_pieces_give_the_same_log_p(monkeypatch) -> None:
    model, batch = tiny(), a_batch(rows=5)
    together = model.log_prob(batch)
    monkeypatch.setattr("musegen.models.biaxial_lstm.MAX_FRAMES", 7)
    torch.testing.assert_close(model.log_prob(batch), together)


def test_notes_outside_the_columns_are_improbable_and_are_inputs() -> None:
    model = tiny(low=2, high=5)
    x_1TD = torch.zeros(1, 3, D)
    silent_T = model.log_prob(without_padding(x_1TD))[0]
    x_1TD[:, 1, 0] = 1
    log_prob_T = model.log_prob(without_padding(x_1TD))[0]
    assert float(log_prob_T[1]) == pytest.approx(float(silent_T[1]) + OUTSIDE_LOGIT, abs=1e-4)
    assert log_prob_T[2] != silent_T[2]
    assert math.isfinite(float(log_prob_T.sum()))


def test_frozen_histories_are_used_in_training_only() -> None:
    batch = a_batch(rows=4, length=200)
    plain, frozen = tiny(dropout=0.0), tiny(dropout=0.0, frozen_histories=0.5)
    expected = plain.losses(batch)["nll"]
    torch.testing.assert_close(frozen.losses(batch)["nll"], expected)
    torch.testing.assert_close(plain.train().losses(batch)["nll"], expected)
    frozen.train()
    assert abs(frozen.losses(batch)["nll"].item() - expected.item()) > 1e-4
    flipped = tiny(dropout=0.0, flipped_notes=0.1).train()
    assert abs(flipped.losses(batch)["nll"].item() - expected.item()) > 1e-4


def test_dropout_is_active_in_training_only() -> None:
    model, batch = tiny(dropout=0.5), a_batch()
    assert model.losses(batch)["nll"] == model.losses(batch)["nll"]
    model.train()
    assert model.losses(batch)["nll"] != model.losses(batch)["nll"]


@pytest.mark.parametrize("settings", [FULL, FULL | {"low": 1, "high": 5}], ids=str)
def test_samples_follow_the_distribution(settings: dict) -> None:
    model, (x_BTD, _) = tiny(1.0, **settings), a_batch()
    c_NPC, v_ND = model.contexts(x_BTD[:1])[-1], all_frames()
    for temperature in (1.0, 2.0):
        sampled_SND, log_prob_SN = model.frame_distribution.sample(
            c_NPC, 4000, temperature, torch.Generator()
        )
        assert sampled_SND.shape == (4000, 1, D)
        index_S = (sampled_SND[:, 0].long() @ 2 ** torch.arange(D).flip(0)).numpy()
        counts = np.bincount(index_S, minlength=2**D) / 4000
        p_N = np.zeros(2**D)
        p_N[index_S] = log_prob_SN[:, 0].exp().numpy()
        assert np.abs(counts - p_N).sum() / 2 < 0.1
        if temperature == 1:
            exact_N = model.frame_distribution.log_prob(c_NPC.expand(len(v_ND), -1, -1), v_ND).exp()
            assert np.allclose(p_N[index_S], exact_N[index_S].detach(), atol=1e-5)


def test_likelihood_and_accuracy_of_a_split(tmp_path) -> None:
    model, batch = tiny(1.0), a_batch(6, 5)
    found = model.assess(Data(batch), samples=400, pieces=tmp_path / "pieces.csv")
    log_prob_N = model.log_prob(batch)[batch.mask_BT]
    assert found["log_likelihood"] == pytest.approx(float(log_prob_N.mean()), abs=1e-5)
    c_TBPC, v_ND, expected = model.contexts(batch.x_BTD), all_frames(), []
    for b, t in batch.mask_BT.nonzero().tolist():
        p_S = model.frame_distribution.log_prob(c_TBPC[t, b].expand(len(v_ND), -1, -1), v_ND).exp()
        accuracy_S = frame_accuracy(batch.x_BTD[b, t].expand(64, -1), v_ND[None])
        expected.append(float(p_S.detach().double() @ accuracy_S.double()))
    assert found["accuracy"] == pytest.approx(np.mean(expected), abs=0.01)
    assert found["frames"] == 28
    with open(tmp_path / "pieces.csv") as file:
        table = list(csv.DictReader(file))
    assert [int(row["frames"]) for row in table] == [5, 3, 5, 5, 5, 5]
    assert found == model.assess(Data(batch), samples=400)
    other = model.assess(Data(batch), split="val", samples=0)
    assert other["log_likelihood"] != found["log_likelihood"]
    assert "accuracy" not in other
    with pytest.raises(UserError, match="samples=-1"):
        model.assess(Data(batch), samples=-1)


def test_generation_is_reproducible_and_changes_no_state() -> None:
    model = tiny(dropout=0.5).train()
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


def test_repeated_notes_are_sustained_or_retriggered() -> None:
    model = tiny()
    torch.nn.init.constant_(model.context_logit.bias, 80.0)
    (sustained,) = model.generate(1, length=5)
    (retriggered,) = model.generate(1, length=5, repeats="retrigger")
    assert (len(sustained), len(retriggered)) == (D, 5 * D)


def test_generation_continues_a_prime(tmp_path) -> None:
    model = tiny()
    prime_TD = np.eye(D, dtype=np.uint8)[[0, 2, 4]]
    write_notes(CODEC.decode(prime_TD), tmp_path / "prime.mid")
    settings = {"length": 30, "prime": tmp_path / "prime.mid", "seed": 1}
    (alone,) = model.generate(1, **settings)
    (after,) = model.generate(1, include_prime=True, **settings)
    (unprimed,) = model.generate(1, length=30, seed=1)
    assert np.array_equal(CODEC.encode(after)[:3], prime_TD)
    assert np.array_equal(CODEC.encode(after)[3:], CODEC.encode(alone))
    assert not np.array_equal(alone, unprimed)
    write_notes(RollCodec().decode(np.eye(88, dtype=np.uint8)[:5]), tmp_path / "low.mid")
    with pytest.raises(UserError, match=r"low\.mid: no notes"):
        model.generate(prime=tmp_path / "low.mid")


@pytest.mark.parametrize(
    "wrong",
    [{"hidden": 0}, {"note_hidden": 0}, {"features": 0}, {"window": -1}, {"notes_below": -1},
     {"global_hidden": -1}, {"attention_heads": -1}, {"attention_span": 0}, {"dropout": 1.0},
     {"frozen_histories": 1.5}, {"flipped_notes": -0.1}, {"low": -1}, {"low": 4, "high": 4},
     {"high": D + 1}],
    ids=str,
)  # fmt: skip
def test_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        BiaxialLSTM(Rolls(D), **wrong)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"length": 0}, {"temperature": 0.0}], ids=str)
def test_generation_settings_outside_their_range_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        tiny().generate(**wrong)


def test_other_specs_are_refused() -> None:
    with pytest.raises(PairingError, match="biaxial_lstm reads Rolls"):
        BiaxialLSTM(Frames(88))


def test_it_learns_a_rule() -> None:
    # A note rises by a semitone per frame, so only its first pitch is random.
    torch.manual_seed(0)
    model = BiaxialLSTM(Rolls(88), hidden=8, note_hidden=8, dropout=0.0, **EQUIVARIANT)
    batch = without_padding(torch.stack([torch.from_numpy(s).float() for s in scales(4, 0)]))
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    for _ in range(40):
        loss = model.losses(batch)["nll"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unseen = without_padding(torch.stack([torch.from_numpy(s).float() for s in scales(3, 9)]))
    assert float(-model.eval().log_prob(unseen)[:, 1:].mean()) < 0.3


def test_train_evaluate_reload_and_generate(cli, tmp_path, monkeypatch) -> None:
    splits = {"train": scales(6, 0), "val": scales(3, 1), "test": scales(3, 2)}
    monkeypatch.setattr(RollBenchmark, "read", lambda self: splits)
    run = tmp_path / "run"
    code, out, err = cli(
        train_module.main, "model=biaxial_lstm", "data=jsb", "model.hidden=8",
        "model.note_hidden=6", "model.global_hidden=4", "trainer.max_epochs=2",
        "data.batch_size=2", "data.chunk_length=10", "data.dt=0.25", "assess.samples=3",
        "sample.length=20", f"hydra.run.dir={run}",
    )  # fmt: skip
    assert code == 0, err
    trained = printed_metrics(out)
    assert {"nll", "log_likelihood", "accuracy", "repeated_context"} <= set(trained)
    assert float(trained["nll"]) == pytest.approx(-float(trained["log_likelihood"]), abs=1e-5)
    header = set((run / "metrics.csv").read_text().splitlines()[0].split(","))
    assert {"train/loss", "val/nll"} <= header
    assert {p.suffix for p in (run / "samples").iterdir()} == {".mid", ".wav", ".png"}
    model = load_model(run / "checkpoints" / "best.ckpt")
    assert isinstance(model, BiaxialLSTM)
    codec = RollCodec(dt=0.25, frames_per_beat=1, common_key=True, hold_limits=(1, 1))
    assert model.codec == codec

    code, out, err = cli(evaluate.main, f"run={run}")
    assert code == 0, err
    assert printed_metrics(out) == trained
    assert json.loads((run / "test.json").read_text())["accuracy"] == pytest.approx(
        float(trained["accuracy"]), rel=1e-3
    )
    code, out, err = cli(generate.main, f"run={run}", "n=2", "length=9", "repeats=retrigger")
    assert code == 0, err
