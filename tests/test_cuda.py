"""What is done on a GPU alone. Chains are captured as a graph there; where there is no GPU, a tape
of torch's kernels on the CPU stands in for it, and the rest is skipped."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exact_rbm import log_weights
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from datamodules.mnist import MNIST
from musegen import train as train_module
from musegen.gibbs import GibbsChains

B, D, H = 6, 5, 4

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")


class Tape(TorchDispatchMode):
    """A graph of kernels: each reads and writes the memory that it was captured with."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[tuple[Any, tuple, dict, Any]] = []

    def __torch_dispatch__(self, func: Any, _: Any, args: tuple = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.kernels.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        for func, args, kwargs, out in self.kernels:
            again = func(*args, **kwargs)
            if isinstance(out, Tensor) and again.data_ptr() != out.data_ptr():
                out.copy_(again)


class Stream:
    def __init__(self, device: torch.device) -> None: ...

    def wait_stream(self, other: Stream) -> None: ...


@contextmanager
def taping(tape: Tape, stream: Stream, capture_error_mode: str) -> Iterator[None]:
    # What is captured does not run: neither the chains nor the random numbers move on.
    with torch.random.fork_rng(devices=[]), tape:
        yield


@pytest.fixture(params=["tape", pytest.param("cuda", marks=needs_gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Where the tensors lie."""
    if request.param == "cuda":
        return torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    monkeypatch.setattr(torch.cuda, "graph", taping)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    return torch.device("cpu")


def machine(device: torch.device, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Weights in float64, which no compiled loop takes."""
    random = torch.Generator().manual_seed(seed)
    shapes = (D, H), (D,), (H,)
    W_DH, b_v, b_h = (torch.randn(s, generator=random, dtype=torch.float64) for s in shapes)
    return W_DH.to(device), b_v.to(device), b_h.to(device)


def chains(weights: Sequence[Tensor], rows: int = B, graph: bool = True) -> GibbsChains:
    """Chains that think themselves on a GPU, or off it."""
    gibbs = GibbsChains(rows, weights[0])
    gibbs.device = torch.device("cuda" if graph else "cpu")
    return gibbs


def ends(gibbs: GibbsChains, k: int, weights: Sequence[Tensor], seed: int) -> list[Tensor]:
    """All that a run leaves: v, its logits, c + v W and h."""
    torch.manual_seed(seed)
    gibbs.run(k, *weights)
    return [t.clone() for t in (gibbs.v_BD, gibbs.logit_BD, gibbs.a_BH, gibbs.h_BH)]


@pytest.mark.parametrize("k", [1, 3])
def test_a_graph_does_the_same_steps(device: torch.device, k: int) -> None:
    weights = machine(device)
    captured, eager = chains(weights), chains(weights, graph=False)
    captured.run(k, *weights)
    graph = captured._graph
    for update in range(4):
        eager.h_BH.copy_(captured.h_BH)
        for ours, expected in zip(
            ends(captured, k, weights, update), ends(eager, k, weights, update), strict=True
        ):
            torch.testing.assert_close(ours, expected)
        weights[0].mul_(0.9)  # as an optimiser would, in place
        weights[1].add_(0.1)
        if update == 1:  # what runs without the graph takes nothing from it
            captured.run(k, *weights, torch.Generator(device).manual_seed(0))
    assert captured._graph is graph


def test_the_first_run_starts_where_the_chains_stand(device: torch.device) -> None:
    # A row of dominoes, h v h v …: each that is on turns its neighbours on, and m of h turn on
    # m + k − 1 of v and m + k of h in k steps.
    n = 16
    W_DH = 200 * (torch.eye(n) + torch.eye(n).roll(1, 1).triu()).to(device, torch.float64)
    b = torch.full((n,), -100.0, dtype=torch.float64, device=device)
    gibbs = chains((W_DH, b, b))
    gibbs.h_BH[:, 0] = 1
    on = 1
    # The first to be captured, of other steps, and of weights and biases that lie elsewhere.
    W2_DH, b2_v, b2_h = W_DH.clone(), b.clone(), b.clone()
    for k, *weights in ((3, W_DH, b, b), (2, W_DH, b, b), (2, W2_DH, b, b),
                        (2, W2_DH, b2_v, b), (2, W2_DH, b2_v, b2_h)):  # fmt: skip
        graph = gibbs._graph
        v_BD = gibbs.run(k, *weights)
        assert v_BD.sum(1).tolist() == [on + k - 1] * B
        assert gibbs.h_BH.sum(1).tolist() == [on + k] * B
        assert gibbs._graph is not graph
        on += k


def test_replays_come_to_the_machines_distribution(device: torch.device) -> None:
    weights, n = machine(device, seed=8), 20_000
    gibbs = chains(weights, n)
    torch.manual_seed(0)
    for _ in range(6):
        v_BD = gibbs.run(2, *weights).cpu()
    counts = torch.bincount((v_BD.long() @ 2 ** torch.arange(D).flip(0)), minlength=2**D)
    expected = log_weights(*(w.cpu() for w in weights)).softmax(0)
    error = (expected * (1 - expected) / n).sqrt()
    assert bool(((counts / n - expected).abs() < 5 * error).all())


# --- Trainings, on a GPU alone ----------------------------------------------------------------


def digits(self: MNIST) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    on = random.random(784) < 0.2  # every image is nearly the same
    return {
        split: (on ^ (random.random((n, 784)) < 0.02)).astype(np.uint8) * 255
        for split, n in (("train", 400), ("val", 40), ("test", 40))
    }


def trained(cli: Any, run: Path, *typed: str) -> tuple[int, str]:
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
def test_an_rbm_learns_on_a_gpu(cli, tmp_path: Path, monkeypatch, typed: tuple[str, ...]) -> None:
    monkeypatch.setattr(MNIST, "images", digits)
    code, err = trained(cli, tmp_path / "run", *typed)
    assert code == 0, err
    with open(tmp_path / "run" / "metrics.csv") as file:
        scores = [float(v) for row in csv.DictReader(file) if (v := row["val/pseudo_likelihood"])]
    # An untaught machine has −784 log 2 = −543; one that knows the mean image −784 H(0.02) = −77.
    assert scores[-1] > -200
    assert scores[-1] > scores[0]


@needs_gpu
def test_a_loss_that_is_no_number_stops_a_training_on_a_gpu(
    cli, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(MNIST, "images", digits)
    code, err = trained(cli, tmp_path / "run", "optimizer.lr=1e38")
    assert code == 1
    assert err.startswith("musegen: the loss is not finite at update ")
