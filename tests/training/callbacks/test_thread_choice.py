"""The choice of the number of threads: measured, recorded, and without a trace in the model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from musegen.models import RBM, RNNRBM
from musegen.specs import FrameBatch, Frames, RollBatch, Rolls
from musegen.training.callbacks import threads
from musegen.training.callbacks.threads import Threads, update_seconds

CPU = SimpleNamespace(
    strategy=SimpleNamespace(root_device=torch.device("cpu")), world_size=1
)  # fmt: skip


MODEL = SimpleNamespace(train_batches=lambda: ["first", "second", "third"])


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("seed: 1\ncallbacks:\n  threads:\n    count: null\n")
    return path


def recorded(config) -> int | None:
    return OmegaConf.load(config).callbacks.threads.count


@pytest.mark.parametrize(("times", "chosen"), [((1.0, 0.6), 2), ((1.0, 0.97), 1), ((1.0, 9.0), 1)])
def test_the_faster_number_is_used_and_recorded(times, chosen, config, monkeypatch, capsys) -> None:
    monkeypatch.setattr(threads, "update_seconds", lambda *_: list(times))
    Threads(config).on_train_start(CPU, MODEL)
    assert torch.get_num_threads() == recorded(config) == chosen
    assert ("threads    1 from here on" in capsys.readouterr().out) == (chosen == 1)
    assert OmegaConf.load(config).seed == 1


def test_a_given_number_is_never_changed(config, monkeypatch) -> None:
    monkeypatch.setattr(threads, "update_seconds", None)  # would raise a TypeError
    callback = Threads(config, count=1)
    callback.on_train_start(CPU, None)
    assert torch.get_num_threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    torch.set_num_threads(2)
    Threads(config).on_train_start(CPU, None)
    many = SimpleNamespace(strategy=CPU.strategy, world_size=2)
    monkeypatch.delenv("OMP_NUM_THREADS")
    Threads(config).on_train_start(many, None)
    assert torch.get_num_threads() == 2
    assert recorded(config) is None


def test_a_slow_epoch_is_a_reason_to_measure_again_before_it_ends(config, monkeypatch) -> None:
    now = 0.0
    monkeypatch.setattr(threads.time, "monotonic", lambda: now)
    measured = []
    monkeypatch.setattr(threads, "update_seconds", lambda *_: measured.append(1) or [1.0, 0.5])
    callback = Threads(config)
    for accumulated, batch_seconds, expected in [
        (1, [5, 5], [0, 0]),  # the fastest epoch: 10 s
        (1, [5, 15], [0, 0]),  # 20 s are not more than twice as long
        (1, [15, 6, 9], [0, 1, 1]),  # one choice in an epoch
        (2, [15, 6, 9], [1, 1, 2]),  # gradients are accumulated until the last batch
    ]:
        callback.on_train_epoch_start(CPU, None)
        for i, seconds in enumerate(batch_seconds):
            now += seconds
            last = i + 1 == len(batch_seconds)
            trainer = SimpleNamespace(
                **vars(CPU), accumulate_grad_batches=accumulated, is_last_batch=last
            )
            callback.on_train_batch_end(trainer, None, None, "batch", i)
            assert len(measured) == expected[i]
        callback.on_train_epoch_end(CPU, None)
    assert torch.get_num_threads() == recorded(config) == 2


def test_a_choice_within_an_epoch_changes_no_weights(tmp_path, monkeypatch) -> None:
    """With chains, dropout and the optimizer's state, to the last bit."""

    def weights(**settings) -> list[torch.Tensor]:
        torch.set_num_threads(2)
        pl.seed_everything(3, verbose=False)
        model = RNNRBM(Rolls(6), hidden=3, recurrent=3, dropout=0.5)
        callback = Threads(tmp_path / "none.yaml", **settings)
        callback._best = 0.0  # every epoch is slow
        trainer = pl.Trainer(
            max_epochs=2, accelerator="cpu", callbacks=[callback], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        loader = torch.utils.data.DataLoader(batches_of(model), batch_size=None)
        trainer.fit(model, loader)
        return [p.detach().clone() for p in model.parameters()]

    measure, measured = threads.update_seconds, []

    def all_are_faster(model, counts, batches) -> list[float]:
        measured.append(len(batches))
        assert all(seconds > 0 for seconds in measure(model, counts, batches))
        return [1.0, 0.5]

    monkeypatch.setattr(threads, "update_seconds", all_are_faster)
    chosen = weights()
    assert measured == [2, 1, 1]  # at the start with two batches, and once in each epoch
    assert all(map(torch.equal, chosen, weights(count=2)))


def batches_of(model) -> list:
    g = torch.Generator().manual_seed(0)
    if isinstance(model, RBM):
        return [FrameBatch((torch.rand(4, 6, generator=g) < 0.5).float()) for _ in range(3)]
    x_BTD = (torch.rand(2, 5, 6, generator=g) < 0.5).float()
    return [RollBatch(x_BTD, torch.ones(2, 5, dtype=torch.bool))] * 3


@pytest.mark.parametrize(
    "model",
    [RBM(Frames(6), hidden=3, chain="pcd"), RNNRBM(Rolls(6), hidden=3, recurrent=3, dropout=0.5)],
    ids=lambda m: m.name,
)
def test_measuring_changes_nothing(model) -> None:
    model.losses(batches_of(model)[0])
    model._accumulated.clear()

    def next_loss() -> torch.Tensor:
        torch.manual_seed(7)
        return sum(model.losses(batches_of(model)[1]).values()).detach()

    weights = {k: v.clone() for k, v in model.state_dict().items()}
    state = model.training_state()
    random = torch.get_rng_state()
    one, two = update_seconds(model, (1, 2), batches_of(model))
    assert one > 0
    assert two > 0
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not model._accumulated
    first = next_loss()
    model.load_training_state(state)
    assert torch.equal(first, next_loss()) or model.name == "rbm"  # its chains have moved on
