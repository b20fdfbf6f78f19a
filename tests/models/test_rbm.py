"""The RBM against exact results by enumeration, for an RBM that is tiny."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from exact_rbm import log_weights, log_z, states
from torch.utils.data import DataLoader

from datamodules.mnist import MNIST
from musegen.cli import evaluate, generate
from musegen.cli import train as train_module
from musegen.errors import PairingError, UserError
from musegen.models import load_model
from musegen.models.rbm import RBM
from musegen.specs import FrameBatch, Frames, Tokens
from musegen.training.optimizer import Optimizer

D, H = 5, 3


def tiny_rbm(scale: float = 1.0, **settings) -> RBM:
    torch.manual_seed(3)
    model = RBM(Frames(D), hidden=H, **settings)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=scale)
    return model


def exact_distribution(model: RBM) -> torch.Tensor:
    """p(v) of every v, in the order of `states`."""
    return log_weights(*(p.detach() for p in model.parameters())).softmax(0)


DATA_ND = torch.tensor([[1, 1, 0, 0, 1], [0, 1, 1, 0, 1], [1, 0, 0, 1, 0], [1, 1, 0, 1, 1]]).float()


def test_free_energy_is_the_sum_over_hidden_states() -> None:
    model = tiny_rbm()
    F_N = model.free_energy(states(D).float())
    expected_N = -log_weights(*(p.detach() for p in model.parameters()))
    assert torch.allclose(F_N.double(), expected_N, atol=1e-5)


@pytest.mark.parametrize("chain", ["cd", "pcd"])
def test_gradient_is_that_of_the_exact_log_likelihood(chain: str) -> None:
    # The chains are long enough to forget their start; what remains is the noise of 40,000 chains.
    model = tiny_rbm(scale=0.5, chain=chain, k=60)
    nll = model.free_energy(DATA_ND).mean() + log_z(model.W_DH, model.b_v, model.b_h)
    exact = torch.autograd.grad(nll, list(model.parameters()))
    x_BD = DATA_ND.repeat(10_000, 1)
    loss = sum(model.losses(FrameBatch(x_BD)).values())
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    for gradient, expected in zip(gradients, exact, strict=True):
        assert torch.allclose(gradient, expected.float(), atol=0.015)
    assert max(float(e.abs().max()) for e in exact) > 0.1


def test_cd_1_ends_have_the_distribution_one_step_from_the_data() -> None:
    # The exact distribution is that of the data, multiplied by the transition matrix.
    model = tiny_rbm(chain="cd", k=1)
    v_ND = states(D).float()
    h_NM = model.hidden_means(v_ND)
    p_h_given_v = torch.stack([
        torch.where(h == 1, h_NM, 1 - h_NM).prod(1) for h in states(H).float()
    ], dim=1)  # fmt: skip
    v_given_h = (states(H).float() @ model.W_DH.t() + model.b_v).sigmoid()
    p_v_given_h = torch.stack([
        torch.where(v == 1, v_given_h, 1 - v_given_h).prod(1) for v in v_ND
    ], dim=1)  # fmt: skip
    transition = (p_h_given_v @ p_v_given_h).detach()
    index = (DATA_ND @ torch.tensor([16.0, 8, 4, 2, 1])).long()
    expected_N = transition[index].mean(0)
    x_BD = DATA_ND.repeat(20_000, 1)
    _, end_BD, _ = model.run_chains(x_BD)
    counts = torch.bincount((end_BD @ torch.tensor([16.0, 8, 4, 2, 1])).long(), minlength=2**D)
    assert (counts / counts.sum() - expected_N).abs().sum() / 2 < 0.01


@pytest.mark.parametrize("chain", ["pcd", "cd"])
def test_hidden_activations_of_data_and_chain_ends(chain: str) -> None:
    model, x_BD = tiny_rbm(chain=chain, k=3), DATA_ND.repeat(3, 1)
    a_BH, end_BD, end_BH = model.run_chains(x_BD)
    torch.testing.assert_close(a_BH, model.b_h + x_BD @ model.W_DH)
    torch.testing.assert_close(end_BH, model.b_h + end_BD @ model.W_DH)


def test_the_monitor_is_evaluated_every_few_updates() -> None:
    batch = FrameBatch(DATA_ND)
    for every, updates in ((1, [0, 1, 2, 3, 4, 5, 6]), (3, [0, 3, 6]), (0, [])):
        model, expected = tiny_rbm(monitor_every=every), 0.0
        for update in range(7):
            if update in updates:  # the bit advances with each evaluation, not with each update
                bit = updates.index(update) % D
                expected += float(model.pseudo_likelihood(DATA_ND, bit).mean())
            model.losses(batch)
        total, rows = model._accumulated.get("pseudo_likelihood", (torch.zeros(()), 0))
        assert rows == len(DATA_ND) * len(updates)
        assert float(total) == pytest.approx(expected * len(DATA_ND), rel=1e-5)


def test_persistent_chains_converge_to_the_distribution_of_the_rbm() -> None:
    model = tiny_rbm(chain="pcd", k=1)
    x_BD = torch.zeros(50_000, D)
    for _ in range(60):
        _, end_BD, _ = model.run_chains(x_BD)
    counts = torch.bincount((end_BD @ torch.tensor([16.0, 8, 4, 2, 1])).long(), minlength=2**D)
    assert (counts / counts.sum() - exact_distribution(model)).abs().sum() / 2 < 0.01


def test_pcd_continues_its_chains_and_cd_starts_at_the_data() -> None:
    # Weights so large that a Gibbs step copies the state: all on stays all on.
    for chain, expected in (("pcd", 0.0), ("cd", 1.0)):
        model = RBM(Frames(D), hidden=H, chain=chain, k=3)
        torch.nn.init.constant_(model.W_DH, 40.0)
        torch.nn.init.constant_(model.b_v, -60.0)
        torch.nn.init.constant_(model.b_h, -100.0)
        ones_BD = torch.ones(4, D)
        _, end_BD, _ = model.run_chains(ones_BD)
        assert torch.equal(end_BD, torch.full((4, D), expected)), chain


def test_pseudo_likelihood_bit_by_bit() -> None:
    model = tiny_rbm()
    p = exact_distribution(model).reshape([2] * D)
    for row in DATA_ND.long().tolist():
        expected = 0.0
        for i in range(D):
            both = p[tuple(slice(None) if j == i else row[j] for j in range(D))]
            expected += float((both[row[i]] / both.sum()).log())
        x_BD = torch.tensor([row]).float()
        assert model.full_pseudo_likelihood(x_BD).item() == pytest.approx(expected, abs=1e-4)
        one_by_one = torch.stack([model.pseudo_likelihood(x_BD, i) for i in range(D)])
        assert one_by_one.mean().item() == pytest.approx(expected, abs=1e-4)
    # In validation each row has its own bit: over as many equal rows as bits the mean is exact.
    same_BD = DATA_ND[:1].expand(D, -1)
    exact = model.full_pseudo_likelihood(DATA_ND[:1]).item()
    assert model._one_bit_per_row(same_BD).mean().item() == pytest.approx(exact, abs=1e-4)


def test_metrics_stay_finite_with_very_large_weights() -> None:
    model = tiny_rbm(scale=300.0)
    metric = model.new_metric()
    for stage in ("val", "test"):
        model.score(FrameBatch(DATA_ND), metric, stage)
    metrics = metric.compute()
    assert set(metrics) == {"pseudo_likelihood", "reconstruction", "free_energy"}
    assert all(np.isfinite(float(v)) for v in metrics.values())


def test_centred_gradient_is_that_of_the_rbm_written_with_offsets() -> None:
    model = tiny_rbm(centered=True)
    mu_D, lam_H = model.mean_D.uniform_(), model.mean_H.uniform_()
    loss = sum(model.losses(FrameBatch(DATA_ND)).values())
    lam_H.copy_(model.mean_H)  # `losses` updated it with the batch's means
    loss.backward()
    model.on_before_optimizer_step(torch.optim.SGD(model.parameters(), lr=1))
    # E' = −(v−μ)·b' − (h−λ)·c' − (v−μ) W (h−λ) is the same RBM with b' = b + W λ,
    # c' = c + Wᵀ μ, and has F'(v) = −(v−μ)·b' + a·λ − Σ softplus(a), a = c' + (v−μ) W.
    W_DH = model.W_DH.detach().requires_grad_()
    b_v = (model.b_v + model.W_DH @ lam_H).detach().requires_grad_()
    b_h = (model.b_h + mu_D @ model.W_DH).detach().requires_grad_()

    def energy(v_BD: torch.Tensor) -> torch.Tensor:
        a_BH = b_h + (v_BD - mu_D) @ W_DH
        return (-(v_BD - mu_D) @ b_v + a_BH @ lam_H - F.softplus(a_BH).sum(1)).mean()

    end_BD = model._gibbs.v_BD
    by_W, by_v, by_h = torch.autograd.grad(energy(DATA_ND) - energy(end_BD), [W_DH, b_v, b_h])
    torch.testing.assert_close(model.W_DH.grad, by_W)
    # A step of b' and W changes b = b' − W λ, and in the same way c.
    torch.testing.assert_close(model.b_v.grad, by_v - by_W @ lam_H)
    torch.testing.assert_close(model.b_h.grad, by_h - mu_D @ by_W)


def test_sparsity_cost_moves_hidden_means_to_the_target() -> None:
    model = tiny_rbm(scale=0.1, sparsity=0.1, sparsity_cost=1.0)
    assert set(model.losses(FrameBatch(DATA_ND))) == {"contrastive", "sparsity"}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    for _ in range(300):
        optimizer.zero_grad()
        model.losses(FrameBatch(DATA_ND))["sparsity"].backward()
        optimizer.step()
    assert torch.allclose(model.hidden_means(DATA_ND).mean(0), torch.full((H,), 0.1), atol=0.03)


class Toy(pl.LightningDataModule):
    """Eight examples of four bits, in batches of four."""

    x_ND = torch.tensor([[1, 0, 0, 1], [1, 1, 0, 0]]).float().repeat(4, 1)

    def loader(self) -> DataLoader:
        return DataLoader(self.x_ND, 4, collate_fn=lambda rows: FrameBatch(torch.stack(rows)))

    train_dataloader = val_dataloader = test_dataloader = loader


def fitted(model: RBM, tmp_path, epochs: int, **settings) -> pl.Trainer:
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False,
                         max_epochs=epochs, enable_progress_bar=False,
                         enable_model_summary=False)  # fmt: skip
    model.optimizer = Optimizer("sgd", lr=0.05)
    trainer.fit(model, Toy(), **settings)
    trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
    return trainer


def test_chains_are_saved_in_the_checkpoint_but_not_as_buffers(tmp_path) -> None:
    torch.manual_seed(0)
    model = RBM(Frames(4), hidden=H, k=2)
    fitted(model, tmp_path, 1)
    saved = torch.load(tmp_path / "1.ckpt", weights_only=True)
    assert set(saved["state_dict"]) == {"W_DH", "b_v", "b_h", "mean_D", "mean_H"}
    assert saved["processes"][0]["chains"].shape == (4, H)
    assert torch.equal(saved["processes"][0]["chains"], model._gibbs.h_BH)
    assert saved["processes"][0]["updates"] == 2

    resumed = RBM(Frames(4), hidden=H, k=2)
    starts = []
    original = resumed.run_chains

    def recording(x_BD):
        if resumed._gibbs is None:
            starts.append(resumed._resumed_SH.clone())
        return original(x_BD)

    resumed.run_chains = recording
    fitted(resumed, tmp_path, 2, ckpt_path=tmp_path / "1.ckpt")
    assert torch.equal(starts[0], saved["processes"][0]["chains"])
    assert resumed._updates == 4


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path) -> None:
    def model() -> RBM:
        torch.manual_seed(0)
        return RBM(Frames(4), hidden=H, k=2)

    def fit(model: RBM, epochs: int, path=None) -> pl.Trainer:
        pl.seed_everything(3, verbose=False)
        trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False,
                             max_epochs=epochs, enable_progress_bar=False,
                             enable_model_summary=False)  # fmt: skip
        model.optimizer = Optimizer("sgd", lr=0.05, momentum=0.5)
        trainer.fit(model, Toy(), ckpt_path=path)
        return trainer

    whole, first, second = model(), model(), model()
    fit(whole, 4)
    fit(first, 2).save_checkpoint(tmp_path / "half.ckpt")
    fit(second, 4, tmp_path / "half.ckpt")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_visible_biases_start_at_the_log_odds(tmp_path) -> None:
    model = RBM(Frames(4), hidden=H, visible_bias="log_odds")
    model.trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    model.trainer.datamodule = Toy()
    model.on_fit_start()
    means = (torch.tensor([8.0, 4.0, 0.0, 4.0]) + 0.5) / 9
    assert torch.allclose(model.mean_D, means)
    assert torch.allclose(model.b_v, means.logit())


def test_log_likelihood_of_a_tiny_rbm() -> None:
    torch.manual_seed(2)
    model = RBM(Frames(4), hidden=H)
    torch.nn.init.normal_(model.W_DH)
    metrics = model.assess(Toy(), chains=500, reverse_rows=8, schedule=((200, 1.0),))
    index = (Toy.x_ND @ torch.tensor([8.0, 4, 2, 1])).long()
    exact_mean = float(exact_distribution(model).log()[index].mean())
    assert metrics["log_likelihood"] == pytest.approx(exact_mean, abs=4 * metrics["log_z_error"])
    assert 0 < metrics["log_z_error"] < 0.05
    assert metrics["log_likelihood_raise"] == pytest.approx(exact_mean, abs=0.2)
    assert not model.assess(Toy(), chains=0, reverse_rows=0)
    for wrong in ({"chains": 1}, {"reverse_rows": 1}):
        with pytest.raises(UserError, match="=1.*should be 0 or at least 2"):
            model.assess(Toy(), **wrong)
    with pytest.raises(UserError, match="chains=-1: should be greater than or equal to 0"):
        model.assess(Toy(), chains=-1)


def test_generation_is_reproducible_and_has_no_side_effects() -> None:
    model = tiny_rbm()
    model.losses(FrameBatch(DATA_ND))
    chains_BH, random = model._gibbs.h_BH.clone(), torch.get_rng_state()
    arrays = model.generate(n=7, rows=3, steps=5, seed=4)
    assert [array.shape for array in arrays] == [(7, D)] * 3
    assert all(array.min() >= 0 and array.max() <= 1 for array in arrays)
    assert np.array_equal(arrays, model.generate(n=7, rows=3, steps=5, seed=4))
    assert not np.array_equal(arrays, model.generate(n=7, rows=3, steps=5, seed=5))
    assert torch.equal(random, torch.get_rng_state())
    assert torch.equal(chains_BH, model._gibbs.h_BH)
    assert model.training


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 0}, "k=0: should be greater than or equal to 1"),
        ({"hidden": 0}, "hidden=0: should be greater than or equal to 1"),
        ({"hidden": True}, "hidden=True: should be a number"),
        ({"monitor_every": -1}, "monitor_every=-1: should be greater than or equal to 0"),
        ({"sparsity": 1.0}, "sparsity=1.0: should be less than 1"),
        ({"sparsity_cost": -0.5}, "sparsity_cost=-0.5: should be greater than or equal to 0"),
    ],
)
def test_settings_out_of_range(wrong: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        RBM(Frames(D), **wrong)


@pytest.mark.parametrize("name", ["n", "rows", "steps"])
def test_sampling_settings_out_of_range(name: str) -> None:
    with pytest.raises(UserError, match=f"{name}=0: should be greater than or equal to 1"):
        tiny_rbm().generate(**{name: 0})


def test_only_frames_are_accepted_of_any_width() -> None:
    assert RBM(Frames(88), hidden=150).W_DH.shape == (88, 150)
    with pytest.raises(PairingError, match="rbm reads Frames"):
        RBM(Tokens(4))


def test_initial_weights_are_those_of_the_tutorial() -> None:
    model = RBM(Frames(784))
    bound = 4 * (6 / 1284) ** 0.5
    assert 0.999 * bound < model.W_DH.abs().max().item() <= bound
    assert not model.b_v.any()
    assert not model.b_h.any()


def stripes(n: int, seed: int) -> np.ndarray:
    """28×28 images with one bright column each."""
    columns_N = np.random.default_rng(seed).integers(0, 28, n)
    images = np.zeros((n, 28, 28), np.uint8)
    images[np.arange(n), :, columns_N] = 230
    return images.reshape(n, 784)


def printed_metrics(out: str) -> dict[str, str]:
    return dict(re.findall(r"^  (\w+) +(-?[\d.]+)$", out, re.M))


def test_train_evaluate_reload_and_generate(cli, tmp_path, monkeypatch) -> None:
    splits = {"train": stripes(60, 0), "val": stripes(20, 1), "test": stripes(20, 2)}
    monkeypatch.setattr(MNIST, "images", lambda self: splits)
    run = tmp_path / "run"
    code, out, err = cli(
        train_module.main, "model=rbm", "data=mnist", "model.hidden=8", "model.k=2",
        "trainer.max_epochs=2", "assess.schedule=[[20,1.0]]", "assess.chains=10",
        "sample.rows=2", "sample.steps=3", "callbacks.samples.steps=3",
        "callbacks.likelihood.every=2", f"hydra.run.dir={run}",
    )  # fmt: skip
    assert code == 0, err
    trained = printed_metrics(out)
    assert set(trained) == {
        "pseudo_likelihood", "reconstruction", "free_energy", "log_likelihood", "log_z",
        "log_z_error", "effective_chains", "log_likelihood_raise", "log_z_reverse",
        "log_z_reverse_error",
    }  # fmt: skip
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/pseudo_likelihood", "val/free_energy_gap", "val/log_likelihood"} <= set(header)
    pictures = {str(p.relative_to(run)) for p in run.rglob("*.png")}
    assert pictures == {
        *[f"previews/epoch_00{n}/{name}.png" for n in (1, 2) for name in ("filters", "sheet")],
        "previews/final/chains.png", "previews/final/reconstructions.png", "samples/sheet.png",
    }  # fmt: skip

    before = json.loads((run / "test.json").read_text())
    code, out, err = cli(evaluate.main, f"run={run}")
    assert code == 0, err
    assert printed_metrics(out) == trained
    assert json.loads((run / "test.json").read_text()) == before

    code, out, err = cli(evaluate.main, f"run={run}", "assess.chains=0", "assess.reverse_rows=0")
    assert code == 0, err
    assert "log_z" not in printed_metrics(out)
    code, _, err = cli(evaluate.main, f"run={run}", "assess.chain=5")
    assert (code, err) == (1, "musegen: assess.chain: no such setting; did you mean chains?\n")

    assert load_model(run / "checkpoints" / "best.ckpt").spec == Frames(784)
    code, out, err = cli(generate.main, f"run={run}", "n=3", "rows=2", "steps=2")
    assert code == 0, err
    assert (run / "generated" / "sheet.png").exists()
