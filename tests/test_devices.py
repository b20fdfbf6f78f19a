"""Devices and precisions other than the CPU with float32.

Tests use a real GPU if torch finds one, and also a simulated GPU that computes on the CPU. The
simulation does not test whether kernels can be captured, nor their random numbers.
"""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import tune
from exact_rbm import log_weights
from omegaconf import OmegaConf
from simulated_gpu import CUDA, simulated_gpu, waits
from torch import Tensor
from torch.utils._pytree import tree_leaves

from datamodules.mnist import MNIST
from musegen.cli import train as train_module
from musegen.codecs.midi import write_notes
from musegen.energy.gibbs import GibbsChains
from musegen.energy.row_chains import RowChains
from musegen.models import RNNRBM
from musegen.specs import RollBatch, Rolls
from tests.cli.test_resume import FAMILIES, settings

B, D, H = 6, 5, 4

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")


@pytest.fixture(params=["simulated", pytest.param("real", marks=needs_gpu)])
def gpu(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    with simulated_gpu() if request.param == "simulated" else nullcontext(CUDA) as device:
        yield device


def rbm_weights(device: torch.device, seed: int = 0) -> list[Tensor]:
    """W_DH, b_v and b_h."""
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(s, generator=random).to(device) for s in ((D, H), (D,), (H,))]


def final_state(gibbs: GibbsChains) -> list[Tensor]:
    """The state after a run: v, its logits, c + v W, and h."""
    return [t.clone() for t in (gibbs.v_BD, gibbs.logit_BD, gibbs.a_BH, gibbs.h_BH)]


@pytest.mark.parametrize("k", [1, 3])
def test_a_graph_runs_the_same_steps(gpu: torch.device, k: int) -> None:
    W_DH, b_v, b_h = rbm_weights(gpu)
    captured, eager = (GibbsChains(B, W_DH) for _ in range(2))
    captured.run(k, W_DH, b_v, b_h)
    graph = captured._graph
    for update in range(4):
        eager.h_BH.copy_(captured.h_BH)
        torch.manual_seed(update)
        captured.run(k, W_DH, b_v, b_h)
        torch.manual_seed(update)
        eager._steps(k, W_DH, b_v, b_h, None)
        eager.set_visible(eager.v_BD, W_DH, b_h)
        for actual, expected in zip(final_state(captured), final_state(eager), strict=True):
            assert torch.equal(actual, expected)
        W_DH.mul_(0.9)  # as an optimiser would, in place
        b_v.add_(0.1)
        if update == 1:  # a run with a generator does not use the graph
            captured.run(k, W_DH, b_v, b_h, torch.Generator(gpu).manual_seed(0))
    assert captured._graph is graph is not None


def test_the_first_run_starts_from_the_state_of_the_chains(gpu: torch.device) -> None:
    # Units in the order h v h v …: a unit that is on turns its neighbours on. From m units of h
    # that are on, k steps turn on m + k − 1 units of v and m + k units of h.
    n = 16
    W_DH = 200 * (torch.eye(n) + torch.eye(n).roll(1, 1).triu()).to(gpu)
    b = torch.full((n,), -100.0).to(gpu)
    gibbs = GibbsChains(B, W_DH)
    gibbs.h_BH[:, 0] = 1
    on = 1
    # The first capture, another number of steps, and weights and biases at other addresses.
    W2_DH, b2_v, b2_h = W_DH.clone(), b.clone(), b.clone()
    for k, *weights in ((3, W_DH, b, b), (2, W_DH, b, b), (2, W2_DH, b, b),
                        (2, W2_DH, b2_v, b), (2, W2_DH, b2_v, b2_h)):  # fmt: skip
        graph = gibbs._graph
        v_BD = gibbs.run(k, *weights)
        assert v_BD.sum(1).tolist() == [on + k - 1] * B
        assert gibbs.h_BH.sum(1).tolist() == [on + k] * B
        assert gibbs._graph is not graph
        on += k


def test_replays_converge_to_the_distribution_of_the_rbm(gpu: torch.device) -> None:
    weights, n = rbm_weights(gpu, seed=8), 20_000
    gibbs = GibbsChains(n, weights[0])
    torch.manual_seed(0)
    for _ in range(6):
        v_BD = gibbs.run(2, *weights).cpu()
    counts = torch.bincount((v_BD.long() @ 2 ** torch.arange(D).flip(0)), minlength=2**D)
    expected = log_weights(*(w.cpu() for w in weights)).softmax(0)
    error = (expected * (1 - expected) / n).sqrt()
    assert bool(((counts / n - expected).abs() < 5 * error).all())


def test_chains_of_conditional_rbms_are_captured_once_for_similar_numbers(
    gpu: torch.device,
) -> None:
    """The biases are such that a chain ends where they point to, whatever it starts from."""
    W_DH, chains = 0.01 * rbm_weights(gpu)[0], RowChains()
    random, graphs = torch.Generator().manual_seed(1), []
    for n in (5, 7, 8, 5, 3):
        v_ND, h_NH = ((torch.rand(n, z, generator=random) < 0.5).float() for z in (D, H))
        biases = [(200 * x - 100).to(gpu) for x in (v_ND, h_NH)]
        ends = chains.run(3, torch.zeros(n, D).to(gpu), W_DH, *biases)
        assert torch.equal(ends.v_ND.cpu(), v_ND)
        assert torch.equal(ends.h_NH.cpu(), h_NH)
        torch.testing.assert_close(ends.a_NH, biases[1] + v_ND.to(gpu) @ W_DH)
        torch.testing.assert_close(ends.start_a_NH, biases[1])
        graphs.append([c._graph for c in chains._by_size.values()])
    assert [len(known) for known in graphs] == [1, 1, 1, 1, 2]
    assert len({id(known[0]) for known in graphs}) == 1


def test_padding_adds_nothing_to_the_loss_of_an_rnn_rbm(gpu: torch.device) -> None:
    """The GPU keeps it, the CPU leaves it out. Chains end where b_v points to."""
    torch.manual_seed(0)
    model = RNNRBM(Rolls(D), hidden=H, recurrent=2, k=2, learn_initial_state=True)
    with torch.no_grad():
        for weight in (model.W_DH, model.W_uv, model.W_uh):
            weight.normal_(std=0.1)
        model.b_v.copy_(torch.tensor([100.0, -100, 100, -100, -100]))
    x_BTD = (torch.rand(3, 4, D) < 0.5).float()
    mask_BT = torch.arange(4) < torch.tensor([[4], [1], [2]])
    found, monitors = [], []
    for device in (torch.device("cpu"), gpu):
        copied = copy.deepcopy(model).to(device)
        loss = copied.losses(RollBatch(x_BTD.to(device), mask_BT.to(device)))["contrastive"]
        loss.backward()
        total, count = copied._accumulated["monitor"]
        found.append([loss.detach().cpu(), *(p.grad.cpu() for p in copied.parameters())])
        monitors.append(float(total))  # with the weights of hidden units that are drawn
        assert int(count) == 7
    torch.testing.assert_close(found[1], found[0])
    assert monitors[1] == pytest.approx(monitors[0], rel=5e-3)
    assert all(bool(gradient.any()) for gradient in found[0][1:])


# --- Complete training runs -------------------------------------------------------------------


class Recorder(pl.Callback):
    """Records the waits for the GPU within updates, and samples of the model at the end."""

    def __init__(self, sample_settings: dict[str, Any]) -> None:
        self.sample_settings = sample_settings
        self.waits: list[str] = []

    def on_train_batch_start(self, *_: Any) -> None:
        waits.clear()

    def on_train_batch_end(self, *_: Any) -> None:
        self.waits += waits

    def on_train_end(self, trainer: pl.Trainer, model: Any) -> None:
        self.samples = model.generate(**self.sample_settings)


SAMPLE_SETTINGS: dict[str, dict[str, Any]] = {
    "rbm": {"n": 2, "rows": 2, "steps": 3},
    "rnn_rbm": {"n": 2, "length": 5, "steps": 3},
    "rnn_nade": {"n": 2, "length": 5},
    "biaxial_lstm": {"n": 2, "length": 5},
    "char_rnn": {"n": 2, "length": 5},
    "lstm_midi": {"n": 2, "length": 5},
}


@pytest.fixture
def midi_folder(tmp_path: Path) -> Path:
    """Six tunes that are short, since the simulated GPU takes a while for each operation."""
    folder = tmp_path / "midi"
    folder.mkdir()
    for i in range(6):
        write_notes(tune(i, 20), folder / f"{i}.mid")
    return folder


def short_run(family: str, run_dir: Path, music: Path, *typed: str) -> Recorder:
    """One epoch of training, a test, and samples."""
    more = ["trainer.max_epochs=1", "callbacks.resume=null", *typed]
    if family == "char_rnn":
        more.append("data.train_size=44")
    if family == "rbm":
        more += ["assess.chains=4", "assess.reverse_rows=4", "assess.schedule=[[9,1.0]]"]
    plain = settings(family, run_dir, music, *more)
    recorder = Recorder(SAMPLE_SETTINGS[family])
    assert np.isfinite(
        train_module.run(plain | {"sample": SAMPLE_SETTINGS[family]}, callbacks=[recorder])
    )
    assert all(np.isfinite(v) for v in json.loads((run_dir / "test.json").read_text()).values())
    assert list((run_dir / "samples").iterdir())
    assert len(recorder.samples)
    return recorder


@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_on_a_gpu(
    gpu: torch.device, family: str, midi_folder: Path, tmp_path: Path
) -> None:
    recorder = short_run(family, tmp_path, midi_folder)
    if family in ("rbm", "rnn_rbm", "rnn_nade", "biaxial_lstm"):
        assert not recorder.waits


@pytest.mark.parametrize(
    ("family", "precision"),
    [
        *[(f, "bf16-mixed") for f in FAMILIES],
        ("rbm", "64-true"),
        ("rnn_rbm", "64-true"),
        ("rnn_nade", "64-true"),
        ("biaxial_lstm", "64-true"),
    ],
)
def test_every_model_in_other_precisions(
    family: str, precision: str, midi_folder: Path, tmp_path: Path
) -> None:
    typed = f"trainer.precision={precision}", "trainer.gradient_clip_val=1", "trainer.gpus=0"
    short_run(family, tmp_path, midi_folder, *typed)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_model_is_fast_on_a_gpu(
    family: str, midi_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    """The setting for the precision and, but for Gibbs chains, the compiled loss.

    torch.compile cannot read simulated tensors. Its replacement overwrites the results of the
    update before, as the replay of a CUDA graph does.
    """
    modes, outputs = [], []

    def compile_as_graph(part: Any, mode: str | None) -> Any:
        modes.append(mode)

        def replay(*args: Any) -> Any:
            with torch.no_grad():
                for tensor in outputs:
                    tensor.fill_(torch.nan)
            outputs.clear()
            result = part(*args)
            state = tree_leaves(carried(part.__self__))
            outputs.extend(t.inner for t in state if isinstance(t, Tensor))
            return result

        return replay

    def carried(model: Any) -> Any:
        state = model.training_state()
        return [v for k, v in state.items() if k != "accumulated" and v is not None]

    monkeypatch.setattr(torch, "compile", compile_as_graph)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
    with simulated_gpu():
        short_run(family, tmp_path, midi_folder, "trainer.fast=true")
    assert modes == ([] if family == "rbm" else ["reduce-overhead"])
    assert OmegaConf.load(tmp_path / "config.yaml").trainer.fast is True
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("fast ")]
    assert ("nothing is compiled" in line) == (family == "rbm")
    assert ("but for the Gibbs chains" in line) == (family == "rnn_rbm")


def digits(self: MNIST) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    on = random.random(784) < 0.2  # all images are similar
    return {
        split: (on ^ (random.random((n, 784)) < 0.02)).astype(np.uint8) * 255
        for split, n in (("train", 400), ("val", 40), ("test", 40))
    }


def train_rbm(cli: Any, run: Path, *typed: str) -> tuple[int, str]:
    code, _, err = cli(
        train_module.main, "model=rbm", "data=mnist", "model.hidden=20", "data.batch_size=20",
        "trainer.max_epochs=3", "trainer.gpus=1", "assess.schedule=[[20,1.0]]", "assess.chains=10",
        "callbacks.samples=null", "sample.rows=2", "sample.steps=3", *typed,
        f"hydra.run.dir={run}",
    )  # fmt: skip
    return code, err


@needs_gpu
@pytest.mark.parametrize("typed", [
    ("model.chain=pcd", "model.k=15"),
    ("model.chain=cd", "model.k=1", "data.batch_size=30"),  # the last batch is smaller
    ("model.chain=pcd", "model.k=2", "trainer.precision=bf16-mixed"),
    ("model.chain=cd", "model.k=2", "trainer.precision=16-mixed"),
], ids=" ".join)  # fmt: skip
def test_an_rbm_trains_on_a_gpu(cli, tmp_path: Path, monkeypatch, typed: tuple[str, ...]) -> None:
    monkeypatch.setattr(MNIST, "images", digits)
    code, err = train_rbm(cli, tmp_path / "run", *typed)
    assert code == 0, err
    with open(tmp_path / "run" / "metrics.csv") as file:
        scores = [float(v) for row in csv.DictReader(file) if (v := row["val/pseudo_likelihood"])]
    # An untrained RBM has −784 log 2 = −543. The mean image alone gives −784 H(0.02) = −77.
    assert scores[-1] > -200
    assert scores[-1] > scores[0]


@needs_gpu
def test_a_loss_that_is_not_finite_stops_training_on_a_gpu(
    cli, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(MNIST, "images", digits)
    code, err = train_rbm(cli, tmp_path / "run", "optimizer.lr=1e38")
    assert code == 1
    assert err.startswith("musegen: the loss is not finite at update ")
