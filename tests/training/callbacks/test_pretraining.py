"""The two stages of pretraining: which weights each one changes, and how well it trains."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import tune
from exact_rbm import log_weights, states

from datamodules.piano_rolls import ChunkSampler, RollDataset
from datamodules.roll_files import RollFolder
from datamodules.samplers import batch_loader
from musegen.codecs.midi import write_notes
from musegen.errors import UserError
from musegen.models.rnn_rbm import RNNRBM
from musegen.runtime.distributed import this_rank
from musegen.specs import RollBatch, Rolls
from musegen.training.callbacks.pretraining import Pretraining, log_odds
from tests.runtime.test_distributed import QUICK, TWO, train_to_the_end

D = 4
RBM_PART = {"W_DH", "b_v", "b_h"}


def batches() -> list[RollBatch]:
    """A note that rises by one per frame and repeats; the end of one sequence is padding."""
    x_BTD = torch.eye(D).repeat(3, 1).expand(2, -1, -1).clone()
    mask_BT = torch.ones(2, 12, dtype=torch.bool)
    mask_BT[1, 8:] = False
    x_BTD[1, 8:] = 1
    return [RollBatch(x_BTD, mask_BT)] * 3


def pretrained(**settings) -> tuple[dict[str, torch.Tensor], RNNRBM, list[tuple[str, float]]]:
    torch.manual_seed(0)
    model = RNNRBM(Rolls(D), hidden=6, recurrent=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logged: list[tuple[str, float]] = []
    pretraining = Pretraining(rbm_batch_size=10, **settings)
    for train in (pretraining.train_rbm, pretraining.train_rnn):
        train(model, batches(), lambda metric, epoch, epochs, value: logged.append((metric, value)))
    return before, model, logged


def changed(before: dict[str, torch.Tensor], model: RNNRBM) -> set[str]:
    after = model.state_dict()
    return {name for name, value in before.items() if not torch.equal(value, after[name])}


def test_the_first_stage_trains_the_rbm_on_single_frames() -> None:
    before, model, logged = pretrained(rbm_epochs=300, rbm_lr=0.5, rnn_epochs=0)
    assert changed(before, model) == RBM_PART
    assert [name for name, _ in logged] == ["rbm/reconstruction"] * 300
    p_N = log_weights(*(model.state_dict()[name] for name in ("W_DH", "b_v", "b_h"))).softmax(0)
    one_note = p_N[states(D).sum(1) == 1]
    assert float(one_note.sum()) > 0.7  # independent notes with the data's means: 0.42
    assert float(one_note.min()) > 0.1


def test_the_second_stage_trains_the_recurrent_network_to_predict() -> None:
    before, model, logged = pretrained(rbm_epochs=0, rnn_epochs=60, rnn_lr=0.03)
    cell = {f"recurrence.cell.{w}" for w in ("W_vu", "W_uu", "b_u")}
    assert changed(before, model) == cell | {"W_uv"}
    assert [name for name, _ in logged] == ["rnn/cross_entropy"] * 60
    # It starts with every note at its mean, 2.25 nats. After training every frame but the first is
    # predicted with certainty.
    assert logged[0][1] == pytest.approx(2.25, abs=0.05)
    assert logged[-1][1] < 0.5


def test_stages_with_zero_epochs_are_skipped() -> None:
    before, model, logged = pretrained(rbm_epochs=0, rnn_epochs=0)
    assert not changed(before, model)
    assert not logged


@pytest.mark.parametrize(
    "wrong", [{"rbm_epochs": -1}, {"rnn_epochs": -1}, {"rbm_k": 0}, {"rbm_batch_size": 0}]
)
def test_settings_out_of_range(wrong: dict) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(UserError, match=f"{name}={value}: should be greater than or equal to"):
        Pretraining(**wrong)


def test_a_resumed_run_skips_pretraining() -> None:
    model = RNNRBM(Rolls(D), hidden=6, recurrent=8)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.ckpt_path = "last.ckpt"
    Pretraining().on_fit_start(trainer, model)
    assert not changed(before, model)


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_pretrains_on_all_data(rank: int, two_processes, monkeypatch) -> None:
    lengths = [3, 4, 5, 6, 7]
    rolls = [np.ones((length, D), np.uint8) for length in lengths]
    sampler = ChunkSampler(lengths, None, 2, 1, np.zeros((5, 2), int))
    loader = batch_loader(RollDataset(rolls), sampler, 0)
    frames = []
    monkeypatch.setattr(
        Pretraining, "train_rbm",
        lambda self, model, batches, log: frames.append(sum(int(b.mask_BT.sum()) for b in batches)),
    )  # fmt: skip
    two_processes(rank)
    assert len(loader) == 1  # of three batches, one for each process and one left over
    model = RNNRBM(Rolls(D), hidden=6, recurrent=8)
    monkeypatch.setattr(model, "train_batches", lambda: loader)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    Pretraining().on_fit_start(trainer, model)
    assert frames == [sum(lengths)]
    assert this_rank() == (rank, 2)


@pytest.mark.slow
def test_two_processes_pretrain_like_one(tmp_path: Path) -> None:
    """Each has all frames and the same random numbers; without its half every value differs."""
    midi_folder = tmp_path / "midi"
    midi_folder.mkdir()
    for i in range(24):  # so many that each split has a batch for each process
        write_notes(tune(i), midi_folder / f"{i}.mid")
    values = []
    for name, processes in (("one", []), ("two", TWO)):
        run = tmp_path / name
        train_to_the_end(
            tmp_path, "model=rnn_rbm", "data=piano_roll_folder", f"data.root={midi_folder}",
            "data.dt=0.25", "data.chunk_length=10", "model.hidden=6", "model.recurrent=8",
            "data.val_fraction=0.3", "data.test_fraction=0.3",
            "callbacks.pretraining.rbm_epochs=3", "callbacks.pretraining.rbm_batch_size=10",
            "callbacks.pretraining.rnn_epochs=3", "assess.frames=20", "assess.ais_steps=20",
            "assess.reverse_frames=0", *QUICK, *processes, f"hydra.run.dir={run}",
        )  # fmt: skip
        rows = csv.DictReader((run / "metrics.csv").open(newline=""))
        logged = [(row["rbm/reconstruction"], row["rnn/cross_entropy"]) for row in rows]
        values.append([pair for pair in logged if any(pair)])
    assert len(values[0]) == 6
    assert values[0] == values[1]


def test_a_process_without_a_validation_batch_is_refused(midi_folder: Path, two_processes) -> None:
    """Of six pieces one is for validation. Lightning calls `setup` before `on_fit_start`, in which
    the pretraining is."""
    data = RollFolder(root=midi_folder, batch_size=1)
    data.prepare_data()
    data.setup()
    assert [len(data.rolls[s]) for s in ("train", "val")] == [4, 1]
    model = RNNRBM(data.spec, data.codec, hidden=6, recurrent=8)
    model.trainer = SimpleNamespace(datamodule=data)
    model.setup("fit")  # one process has all batches
    two_processes(1)
    with pytest.raises(UserError, match="val: there are fewer batches than the 2 processes"):
        model.setup("fit")
    model.setup("test")


def test_log_odds_stay_finite() -> None:
    odds_D = log_odds(torch.tensor([[1.0, 0, 1], [1, 0, 0], [1, 0, 0]]))
    expected_D = torch.tensor([3.5 / 4, 0.5 / 4, 1.5 / 4]).logit()
    torch.testing.assert_close(odds_D, expected_D)
