"""The RNN-RBM against exact results by enumeration, for a model that is tiny."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from exact_rbm import log_weights, log_z, states

from datamodules.roll_benchmark import RollBenchmark
from musegen.cli import evaluate, generate
from musegen.cli import train as train_module
from musegen.codecs.midi import write_notes
from musegen.codecs.roll_codec import RollCodec
from musegen.energy.row_chains import RowChains
from musegen.errors import PairingError, UserError
from musegen.metrics.accuracy import frame_accuracy
from musegen.models import load_model
from musegen.models.recurrent_rolls import Conditions
from musegen.models.rnn_rbm import RNNRBM
from musegen.specs import Frames, RollBatch, Rolls
from musegen.training.optimizer import Optimizer

pytestmark = pytest.mark.usefixtures("near_matches")

D, H, R = 4, 3, 5
CODEC = RollCodec(pitch_range=(60, 60 + D))


def tiny_model(scale: float = 0.7, **settings) -> RNNRBM:
    torch.manual_seed(3)
    model = RNNRBM(Rolls(D), CODEC, hidden=H, recurrent=R, **settings)
    for p in model.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=scale)
    return model


def small_batch(batch_size: int = 2, length: int = 4, seed: int = 0) -> RollBatch:
    """Sequences; the last two frames of the second one are padding."""
    g = torch.Generator().manual_seed(seed)
    x_BTD = (torch.rand(batch_size, length, D, generator=g) < 0.5).float()
    mask_BT = torch.ones(batch_size, length, dtype=torch.bool)
    mask_BT[1, -2:] = False
    return RollBatch(x_BTD * mask_BT[..., None], mask_BT)


def repeated(batch: RollBatch, times: int) -> RollBatch:
    return RollBatch(*(x.repeat(times, *[1] * (x.dim() - 1)) for x in batch))


def exact_nll(model: RNNRBM, batch: RollBatch) -> torch.Tensor:
    """−log p(v(t) | v(1) … v(t−1)) of every frame that is not padding, log Z by enumeration."""
    x_ND, b_v_ND, b_h_NH = model.frames_and_biases(batch)
    nll = []
    for x_D, b_v, b_h in zip(x_ND, b_v_ND, b_h_NH, strict=True):
        log_f = x_D @ b_v + torch.nn.functional.softplus(b_h + x_D @ model.W_DH).sum()
        nll.append(log_z(model.W_DH, b_v, b_h) - log_f)
    return torch.stack(nll)


def test_each_frame_has_the_biases_of_the_paper() -> None:
    model, batch = tiny_model(), small_batch()
    x_ND, b_v_ND, b_h_NH = model.frames_and_biases(batch)
    n = 0
    for row_TD, length in zip(batch.x_BTD, (4, 2), strict=True):
        u_R = torch.zeros(R)
        for v_D in row_TD[:length]:
            assert torch.equal(x_ND[n], v_D)
            torch.testing.assert_close(b_v_ND[n], model.b_v + u_R @ model.W_uv)
            torch.testing.assert_close(b_h_NH[n], model.b_h + u_R @ model.W_uh)
            cell = model.recurrence.cell
            u_R = torch.tanh(cell.b_u + v_D @ cell.W_vu + u_R @ cell.W_uu)
            n += 1
    assert n == len(x_ND) == 6


def test_probabilities_of_whole_sequences_sum_to_one() -> None:
    # Over all sequences of two frames, Σ p(v(1)) p(v(2) | v(1)) = 1.
    model = tiny_model()
    v_ND = states(D).float()
    pairs_BTD = torch.stack([v_ND.repeat_interleave(2**D, 0), v_ND.repeat(2**D, 1)], dim=1)
    batch = RollBatch(pairs_BTD, torch.ones(2 ** (2 * D), 2, dtype=torch.bool))
    with torch.no_grad():
        nll_BT = exact_nll(model, batch).unflatten(0, (-1, 2))
    assert float((-nll_BT.sum(1)).exp().sum()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "tanh"},
        {"cell": "lstm"},
        {"cell": "gru"},
        {"attention_heads": 2, "attention_span": 2},
    ],
    ids=str,
)
def test_gradient_is_that_of_the_exact_log_likelihood(settings: dict) -> None:
    # The chains are long enough to forget their start; what remains is their noise.
    model, batch = tiny_model(scale=0.5, k=40, learn_initial_state=True, **settings), small_batch()
    weights = [p for p in model.parameters() if p.requires_grad]
    exact = torch.autograd.grad(exact_nll(model, batch).mean(), weights)
    loss = model.losses(repeated(batch, 10_000))["contrastive"]
    for gradient, expected in zip(torch.autograd.grad(loss, weights), exact, strict=True):
        assert torch.allclose(gradient, expected.float(), atol=0.01)
    assert sum(float(e.abs().max()) > 0.03 for e in exact) > len(exact) / 3


def test_attention_enters_the_biases() -> None:
    model, batch = tiny_model(attention_heads=2), small_batch()
    with_attention = model.frames_and_biases(batch)
    r_BTZ = model.attention.all_steps(model.recurrence.states_before(batch.x_BTD), batch.x_BTD)
    r_NZ = r_BTZ[batch.mask_BT]
    model.attention = None
    without = model.frames_and_biases(batch)
    torch.testing.assert_close(with_attention[1], without[1] + r_NZ @ model.W_rv)
    torch.testing.assert_close(with_attention[2], without[2] + r_NZ @ model.W_rh)


@pytest.mark.parametrize("heads", [0, 2])
def test_padding_is_not_counted(heads: int) -> None:
    model, batch = tiny_model(attention_heads=heads), small_batch()
    # More padding, full of notes; the other frames are the same, in the same order.
    wider = RollBatch(torch.ones(2, 7, D), torch.zeros(2, 7, dtype=torch.bool))
    wider.x_BTD[:, :4][batch.mask_BT] = batch.x_BTD[batch.mask_BT]
    wider.mask_BT[:, :4] = batch.mask_BT
    results = []
    for padded in (batch, wider):
        torch.manual_seed(7)
        metric = model.new_metric()
        model.score(padded, metric, "val")
        loss = model.losses(padded)["contrastive"]
        grads = torch.autograd.grad(loss, [model.W_DH, model.recurrence.cell.W_uu])
        results.append([loss, *grads, *metric.compute().values()])
        assert model.num_predictions(padded) == 6
    torch.testing.assert_close(*results)


def test_the_monitor_uses_the_mean_field_one_step_after_the_chain() -> None:
    model = tiny_model(k=2)
    x_ND, b_v_ND, b_h_NH = model.frames_and_biases(repeated(small_batch(), 2))
    ends = RowChains().run(2, x_ND, model.W_DH, b_v_ND, b_h_NH)
    p_ND = (b_v_ND + ends.h_NH @ model.W_DH.t()).sigmoid()
    expected_N = (x_ND * p_ND.log() + (1 - x_ND) * (1 - p_ND).log()).sum(1)
    torch.testing.assert_close(model.monitor_log_prob(ends.h_NH, x_ND, b_v_ND), expected_N)


def test_metrics_stay_finite_with_very_large_weights() -> None:
    model, metric = tiny_model(scale=300.0, val_fraction=1.0), tiny_model().new_metric()
    model.score(small_batch(), metric, "val")
    model.losses(small_batch())
    metrics = [*metric.compute().values(), model._accumulated["monitor"][0]]
    assert len(metrics) == 4
    assert all(np.isfinite(float(v)) for v in metrics)


def test_training_after_a_validation_batch_of_the_same_size() -> None:
    model, batch = tiny_model(), small_batch()
    with torch.inference_mode():
        model.score(batch, model.new_metric(), "val")
    model.losses(batch)["contrastive"].backward()
    assert model.W_DH.grad.isfinite().all()


def test_biases_keep_their_precision_under_autocast() -> None:
    model, batch = tiny_model(attention_heads=2), small_batch()
    model.note = lambda *_, **__: None
    with torch.autocast("cpu", torch.bfloat16):
        assert {b.dtype for b in model.frames_and_biases(batch)} == {torch.float32}
        model.losses(batch)["contrastive"].backward()
    assert bool(model.W_uv.grad.isfinite().all())


def test_dropout_is_used_in_training_only() -> None:
    model = tiny_model(dropout=0.5)
    batch = repeated(small_batch(), 50)
    in_training = [model.frames_and_biases(batch)[1] for _ in range(2)]
    assert not torch.equal(*in_training)
    model.eval()
    assert torch.equal(*(model.frames_and_biases(batch)[1] for _ in range(2)))


def test_frozen_histories_enter_the_biases_and_never_the_targets(monkeypatch) -> None:
    model, batch = tiny_model(frozen_histories=0.5), small_batch()
    history_BTD = 1 - batch.x_BTD
    monkeypatch.setattr("musegen.models.roll_model.freeze_history", lambda *_: history_BTD)
    found = []
    run = model._chains.run
    monkeypatch.setattr(model._chains, "run", lambda *a: found.append(a) or run(*a))
    model.losses(batch)
    _, x_ND, _, b_v_ND, _ = found[0]
    assert torch.equal(x_ND, batch.x_BTD[batch.mask_BT])
    expected_ND = model.frames_and_biases(RollBatch(history_BTD, batch.mask_BT))[1]
    torch.testing.assert_close(b_v_ND, expected_ND)


def test_learning_rates_of_the_rbm_and_of_the_other_weights() -> None:
    model = tiny_model(rbm_lr_factor=0.1)
    groups = Optimizer("sgd", lr=0.2, weight_decay=0.5).build(
        model.parameters(), model.learning_rate_factors()
    )
    rates = {p: (g["lr"], g["weight_decay"]) for g in groups.param_groups for p in g["params"]}
    slow, fast = pytest.approx(0.02), pytest.approx(0.2)
    assert rates.pop(model.W_DH) == (slow, 0.5)
    assert rates.pop(model.b_v) == rates.pop(model.b_h) == (slow, 0)
    assert all(lr == fast for lr, _ in rates.values())
    assert len(rates) == 5  # W_uv, W_uh, W_vu, W_uu, b_u; u(0) is not learned


class Data:
    """One batch as every split."""

    def __init__(self, batch: RollBatch) -> None:
        self.batch = batch

    def test_dataloader(self) -> list[RollBatch]:
        return [self.batch]

    def val_dataloader(self) -> list[RollBatch]:
        return [RollBatch(1 - self.batch.x_BTD, self.batch.mask_BT)]


def test_log_likelihood_and_accuracy_of_a_tiny_model(capsys) -> None:
    model, batch = tiny_model(scale=1.0).eval(), small_batch(30, 5)
    metrics = model.assess(Data(batch), frames=0, tolerance=0.05, reverse_frames=50)
    x_ND, b_v_ND, b_h_NH = model.frames_and_biases(batch)
    with torch.no_grad():
        exact = -float(exact_nll(model, batch).mean())
    error = metrics["log_likelihood_error"]
    assert 0 < error < 0.02
    assert abs(metrics["log_likelihood"] - exact) < 4 * error
    assert abs(metrics["last_change"]) < 0.05
    assert f"AIS, {metrics['ais_steps']} steps × 100 chains: {metrics['log_likelihood']:.4f}" in (
        capsys.readouterr().out
    )
    assert metrics["frames"] == 148
    assert metrics["log_likelihood_raise"] == pytest.approx(
        exact, abs=4 * metrics["reverse_gap_error"] + 0.01
    )
    v_SD, expected = states(D).float(), 0.0
    for x_D, b_v, b_h in zip(x_ND, b_v_ND, b_h_NH, strict=True):
        p_S = log_weights(model.W_DH.detach(), b_v.detach(), b_h.detach()).softmax(0)
        accuracy_S = torch.stack([frame_accuracy(x_D[None], v[None, None])[0] for v in v_SD])
        expected += float(p_S @ accuracy_S.double())
    assert metrics["accuracy"] == pytest.approx(expected / len(x_ND), abs=0.003)


def test_with_fixed_ais_steps_the_metric_is_called_an_upper_estimate() -> None:
    model, data = tiny_model(), Data(small_batch(30, 5))
    settings = {"ais_steps": 10, "reverse_frames": 0}
    metrics = model.assess(data, frames=40, **settings)
    assert set(metrics) == {
        "log_likelihood_upper_estimate", "log_likelihood_error", "accuracy", "accuracy_error",
        "frames", "ais_steps",
    }  # fmt: skip
    assert metrics == model.assess(data, frames=40, **settings)
    assert (
        metrics["log_likelihood_error"]
        > model.assess(data, frames=100, **settings)["log_likelihood_error"]
    )
    other = model.assess(data, split="val", frames=40, **settings)
    assert other["log_likelihood_upper_estimate"] != metrics["log_likelihood_upper_estimate"]
    for name in ("frames", "chains", "reverse_frames"):
        with pytest.raises(UserError, match=f"{name}=1.*should not be 1"):
            model.assess(data, **{name: 1})
    with pytest.raises(UserError, match="ais_steps=0: should be greater than or equal to 1"):
        model.assess(data, ais_steps=0)


def test_generation_is_reproducible_and_has_no_side_effects() -> None:
    model = tiny_model(dropout=0.5)
    random = torch.get_rng_state()
    pieces = model.generate(3, length=12, steps=4, seed=4)
    assert len(pieces) == 3
    assert all(notes["end"].max() <= 12 * CODEC.dt + 1e-9 for notes in pieces)
    again = model.generate(3, length=12, steps=4, seed=4)
    assert all(np.array_equal(a, b) for a, b in zip(pieces, again, strict=True))
    other = model.generate(3, length=12, steps=4, seed=5)
    assert not all(np.array_equal(a, b) for a, b in zip(pieces, other, strict=True))
    assert not all(np.array_equal(a, pieces[0]) for a in pieces[1:])
    assert torch.equal(random, torch.get_rng_state())
    assert model.training


@pytest.mark.parametrize("sampler", [{"steps": 40}, {"ais_steps": 20}], ids=str)
def test_generated_frames_have_the_distribution_of_the_rbm(sampler: dict) -> None:
    # Frequencies of the first frame of many pieces, against the exact p(v | u(0)).
    model = tiny_model(scale=1.0)
    start = Conditions(model.recurrence.start(1)[0])
    biases = [b[0].detach() for b in model.biases(start)]
    for temperature in (1.0, 2.0):
        p_N = log_weights(*(w / temperature for w in (model.W_DH.detach(), *biases))).softmax(0)
        pieces = model.generate(4000, length=1, temperature=temperature, **sampler)
        rolls_ND = np.zeros((4000, D), np.int64)
        for frame_D, notes in zip(rolls_ND, pieces, strict=True):
            frame_D[notes["pitch"] - 60] = 1
        counts = np.bincount(rolls_ND @ [8, 4, 2, 1], minlength=2**D) / 4000
        assert np.abs(counts - p_N.numpy()).sum() / 2 < 0.05


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "lstm"},
        {"attention_heads": 2, "attention_span": 3},
        {"note_age": True, "clock": True, "longest_match": True},
        {"metre": True},
    ],
)
def test_generation_has_the_same_biases_as_training(settings: dict, tmp_path, monkeypatch) -> None:
    model, calls = tiny_model(**settings).eval(), []
    prime_TD = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.uint8)
    write_notes(CODEC.decode(prime_TD), tmp_path / "prime.mid")
    biases = model.biases
    monkeypatch.setattr(model, "biases", lambda *a: calls.append(biases(*a)) or calls[-1])
    (notes,) = model.generate(1, length=6, prime=tmp_path / "prime.mid", include_prime=True)
    monkeypatch.undo()
    x_1TD = torch.zeros(1, 9, D)
    generated_TD = CODEC.encode(notes)
    x_1TD[0, : len(generated_TD)] = torch.from_numpy(generated_TD)
    in_training = model.frames_and_biases(RollBatch(x_1TD, torch.ones(1, 9, dtype=torch.bool)))[1:]
    for in_generation, expected in zip(zip(*calls, strict=True), in_training, strict=True):
        torch.testing.assert_close(torch.cat(in_generation), expected[3:])


def test_repeated_frames_sustain_or_retrigger_notes() -> None:
    model = tiny_model()
    torch.nn.init.constant_(model.b_v, 50.0)
    (sustained,) = model.generate(1, length=5)
    (retriggered,) = model.generate(1, length=5, repeats="retrigger")
    assert (len(sustained), len(retriggered)) == (D, 5 * D)


def test_generated_pieces_continue_the_prime(tmp_path) -> None:
    model = tiny_model()
    prime_TD = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]], np.uint8)
    write_notes(CODEC.decode(prime_TD), tmp_path / "prime.mid")
    (continuation,) = model.generate(1, length=30, prime=tmp_path / "prime.mid", seed=1)
    (with_prime,) = model.generate(
        1, length=30, prime=tmp_path / "prime.mid", include_prime=True, seed=1, repeats="retrigger"
    )
    (unprimed,) = model.generate(1, length=30, seed=1)
    assert np.array_equal(CODEC.encode(with_prime)[:3], prime_TD)
    roll_TD = CODEC.encode(continuation)
    assert np.array_equal(CODEC.encode(with_prime)[3:], roll_TD)
    assert not np.array_equal(continuation, unprimed)
    (cut,) = model.generate(
        1, length=30, prime=tmp_path / "prime.mid", prime_seconds=2 * CODEC.dt, include_prime=True
    )
    assert len(CODEC.encode(cut)) <= 32
    assert np.array_equal(CODEC.encode(cut)[:2], prime_TD[:2])
    with pytest.raises(UserError, match="prime_seconds=0"):
        model.generate(prime=tmp_path / "prime.mid", prime_seconds=0)
    write_notes(RollCodec().decode(np.eye(88, dtype=np.uint8)[:5]), tmp_path / "low.mid")
    with pytest.raises(UserError, match=r"low\.mid: no notes"):
        model.generate(prime=tmp_path / "low.mid")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hidden": 0}, "hidden=0: should be greater than or equal to 1"),
        ({"recurrent": 0}, "recurrent=0: should be greater than or equal to 1"),
        ({"k": 0}, "k=0: should be greater than or equal to 1"),
        ({"k": True}, "k=True: should be a number"),
        ({"dropout": 1.0}, "dropout=1.0: should be less than or eq"),
        ({"val_fraction": 0.0}, "val_fraction=0.0: should be greater than 0"),
        ({"rbm_lr_factor": -1.0}, "rbm_lr_factor=-1.0: should be greater than or equal to 0"),
        ({"attention_heads": -1}, "attention_heads=-1: should be greater than or equal to 0"),
        ({"attention_span": 0}, "attention_span=0: should be greater than or equal to 1"),
    ],
)
def test_settings_out_of_range(wrong: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        RNNRBM(Rolls(D), **wrong)


@pytest.mark.parametrize(
    "wrong", [{"n": 0}, {"length": 0}, {"steps": 0}, {"temperature": 0.0}, {"ais_steps": -1}]
)
def test_generation_settings_out_of_range(wrong: dict) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(UserError, match=f"{name}={value}: should be greater than"):
        tiny_model().generate(**wrong)


def test_only_rolls_are_accepted() -> None:
    with pytest.raises(PairingError, match="rnn_rbm reads Rolls"):
        RNNRBM(Frames(88))


def test_initial_weights_are_those_of_the_tutorial() -> None:
    torch.manual_seed(0)
    model = RNNRBM(Rolls(88))
    cell = model.recurrence.cell
    assert model.W_DH.shape == (88, 150)
    assert float(model.W_DH.detach().std()) == pytest.approx(0.01, rel=0.05)
    for W in (model.W_uv, model.W_uh, cell.W_vu, cell.W_uu):
        assert float(W.detach().std()) == pytest.approx(0.0001, rel=0.05)
    assert not any(b.any() for b in (model.b_v, model.b_h, cell.b_u, model.recurrence.initial_SR))


def scales(n: int, seed: int) -> list[np.ndarray]:
    """Piano-rolls with one note that rises by a semitone per frame."""
    rng = np.random.default_rng(seed)
    return [np.eye(88, dtype=np.uint8)[int(rng.integers(0, 60)) :][:25] for _ in range(n)]


def printed_metrics(out: str) -> dict[str, str]:
    return dict(re.findall(r"^  (\w+) +(-?[\d.]+)$", out, re.M))


def test_train_evaluate_reload_and_generate(cli, tmp_path, monkeypatch) -> None:
    splits = {"train": scales(6, 0), "val": scales(3, 1), "test": scales(3, 2)}
    monkeypatch.setattr(RollBenchmark, "read", lambda self: splits)
    run = tmp_path / "run"
    code, out, err = cli(
        train_module.main, "model=rnn_rbm", "data=jsb", "model.hidden=8", "model.recurrent=6",
        "model.k=2", "trainer.max_epochs=2", "data.batch_size=2", "data.chunk_length=10",
        "data.dt=0.25", "callbacks.pretraining.rbm_epochs=2", "callbacks.pretraining.rnn_epochs=2",
        "assess.frames=20", "assess.chains=5", "assess.ais_steps=10",
        "assess.reverse_frames=5", "sample.length=30", f"hydra.run.dir={run}",
    )  # fmt: skip
    assert code == 0, err
    trained = printed_metrics(out)
    assert {"monitor", "log_likelihood_upper_estimate", "accuracy"} <= set(trained)
    header = set((run / "metrics.csv").read_text().splitlines()[0].split(","))
    assert {"train/monitor", "val/monitor", "val/log_likelihood", "val/accuracy"} <= header
    assert {"rbm/reconstruction", "rnn/cross_entropy"} <= header
    samples = {p.suffix for p in (run / "samples").iterdir()}
    assert samples == {".mid", ".wav", ".png"}
    model = load_model(run / "checkpoints" / "best.ckpt")
    assert isinstance(model, RNNRBM)
    codec = RollCodec(dt=0.25, frames_per_beat=1, common_key=True, hold_limits=(1, 1))
    assert model.codec == codec

    code, out, err = cli(evaluate.main, f"run={run}")
    assert code == 0, err
    assert printed_metrics(out) == trained
    assert json.loads((run / "test.json").read_text())["accuracy"] == pytest.approx(
        float(trained["accuracy"]), abs=1e-6
    )
    code, _, err = cli(evaluate.main, f"run={run}", "data=jsb", "data.pitch_range=[30,90]")
    assert code == 1
    assert "was trained on Rolls(pitches=88), but this data is Rolls(pitches=60)" in err
    code, out, err = cli(generate.main, f"run={run}", "n=2", "length=9", "repeats=retrigger")
    assert code == 0, err
    assert len(out.splitlines()) == 2
