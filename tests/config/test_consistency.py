"""Settings that contradict one another are refused in one line, before any work."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from musegen.cli import train
from musegen.config.consistency import scores
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.models import MODELS
from musegen.models import RBM as RBM_MODEL

PLATEAU = "optimizer.schedule=plateau"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ([PLATEAU, "trainer.check_val_every_n_epoch=2"], "plateau needs val/nll after every epoch"),
        ([PLATEAU, "optimizer.warmup_steps=5"], "warmup_steps=5: schedule=plateau has no warm-up"),
        (["optimizer.betas=[1.5,0.9]"], "should be less than 1"),
        (["optimizer.factor=2"], "optimizer.factor=2: should be less than 1"),
        (["optimizer.final_lr=-1"], "optimizer.final_lr=-1: should be greater than or equal to 0"),
        (["trainer.max_epochs=-1", "trainer.max_time=00:00:00:05"], "cosine needs the number of"),
        (["trainer.val_check_interval=1000"], "an epoch has only"),
        (["monitor=val/nl"], "monitor=val/nl: no such score of this lstm_midi; did you mean val"),
        (["callbacks=early_stopping", "callbacks.early_stopping.monitor=val/los"],
         "callbacks.early_stopping.monitor=val/los: no such score of this lstm_midi"),
        (["model=char_rnn", "data=names", "monitor=val/capacity"], "no such score of this"),
        (["model=rnn_nade", "data=jsb", "monitor=val/nll"], "no such score of this rnn_nade"),
        (["model=biaxial_lstm", "data=jsb", "monitor=val/accuracy"], "of this biaxial_lstm"),
        (["model=rbm", "data=mnist_5k", "monitor=val/log_likelihood"], "no such score of this rbm"),
        (["trainer.accumulate_grad_batches=0"], "accumulate_grad_batches=0: should be greater"),
        (["trainer.check_val_every_n_epoch=0"], "check_val_every_n_epoch=0: should be greater"),
        (["trainer.gradient_clip_val=-1"], "gradient_clip_val=-1: should be greater than or"),
        (["trainer.strategy=ddp_spawn"], "trainer.strategy=ddp_spawn: not supported; use"),
        (["trainer.strategy=ddp_fork"], "trainer.strategy=ddp_fork: not supported; use"),
        (["trainer.strategy=ddp_notebook"], "trainer.strategy=ddp_notebook: not supported; use"),
        (["model.dropout=0.999999"], "model.dropout=0.999999: should be less than or equal to"),
        (["sample.temperature=1e-40"], "sample.temperature=1e-40: should be 0, or at least 0.001"),
        (["sample.length=1e9"], "should be less than or equal to 1000000"),
        (["sample.n=0"], "sample.n=0: should be greater than or equal to 1"),
        (["preview.n=0"], "preview.n=0: should be greater than or equal to 1"),
        (["sample.prime=missing.mid"], "sample: "),
        (["preview.prime=missing.mid"], "preview: "),
    ],
)  # fmt: skip
def test_they_are_refused(cli, midi_folder: Path, tmp_path: Path, monkeypatch, typed, message):
    monkeypatch.setattr(train, "fit", None)  # must not be called
    code, _, err = cli(
        train.main, "data=midi_folder", f"data.root={midi_folder}", *typed,
        f"hydra.run.dir={tmp_path}/run",
    )  # fmt: skip
    assert code == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_training_for_a_time_works(cli, midi_folder: Path) -> None:
    code, _, err = cli(
        train.main, "data=midi_folder", f"data.root={midi_folder}", "model.hidden=4",
        "trainer.max_epochs=-1", "trainer.max_time=00:00:00:01", "optimizer.schedule=none",
        "sample=null", "callbacks.samples=null",
    )  # fmt: skip
    assert code == 0, err


ROLLS = ["data=piano_roll_folder", "data.root={}", "model.hidden=4"]
RBM = ["model=rbm", *ROLLS, "data.view=frames", "assess.schedule=[[3,1.0]]", "model.sparsity=0.1"]


@pytest.mark.parametrize(
    "typed",
    [
        ["model=char_rnn", "data=anbn", "data.train_size=50", "data.count_to=5"],
        ["model=lstm_midi", "data=midi_folder", "data.root={}", "model.hidden=4"],
        [*RBM, "callbacks.likelihood.every=1", "callbacks.likelihood.schedule=[[3,1.0]]",
         "callbacks.likelihood.reverse_rows=2"],
        [*RBM, "model.chain=cd"],
        ["model=rnn_rbm", *ROLLS, "model.k=1", "callbacks.pretraining=null", "assess.frames=2",
         "assess.ais_steps=2", "assess.chains=2", "assess.reverse_frames=0"],
        ["model=rnn_nade", *ROLLS, "assess.samples=0"],
        ["model=biaxial_lstm", *ROLLS, "assess.samples=0", "model.note_hidden=4"],
    ],
    ids=lambda typed: f"{typed[0]} {typed[-1]}",
)  # fmt: skip
def test_the_stated_scores_are_those_that_a_run_logs(
    tmp_path: Path, midi_folder: Path, typed
) -> None:
    more = ["sample=null", "callbacks.samples=null", "trainer.max_epochs=1", f"run_dir={tmp_path}"]
    settings = resolve_config(compose_config([t.format(midi_folder) for t in typed] + more))
    train.run(settings)
    with (tmp_path / "metrics.csv").open(newline="") as table:
        columns = [c for c in csv.DictReader(table).fieldnames if c.startswith(("val/", "train/"))]
    model = MODELS[typed[0].removeprefix("model=")]
    stated = set(scores(settings, model))
    if model is RBM_MODEL:  # in training it has a monitor for each kind of chain
        other = "pseudo_likelihood" if "model.chain=cd" in typed else "reconstruction"
        stated.remove(f"train/{other}")
    assert set(columns) == stated


def test_every_shipped_model_states_its_scores() -> None:
    shipped = [m for m in MODELS.values() if m.__module__.startswith("musegen.")]
    assert len(shipped) >= 6
    for model in shipped:
        assert model.monitor[0].removeprefix("val/") in model.scores


OWN = """
from musegen.models import CharRNN

class Own(CharRNN):
    def on_validation_epoch_end(self):
        super().on_validation_epoch_end()
        self.log("val/own", 1.0)
"""


@pytest.mark.parametrize(
    ("monitor", "code"), [("val/own", 0), ("val/nll", 0), ("val/on", 1), ("val/capacity_", 1)]
)
def test_a_model_of_ones_own_is_asked_for_its_scores(
    cli, tmp_path: Path, monkeypatch, monitor: str, code: int
) -> None:
    """It states none: a batch is scored before the training, with all that the class logs."""
    (tmp_path / "own_scores.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    run = tmp_path / "run"
    done, _, err = cli(
        train.main, "model._target_=own_scores.Own", "data=anbn", "data.train_size=40",
        "data.count_to=3", f"monitor={monitor}", "sample=null", "trainer.max_epochs=1",
        "+model.hidden=4", f"hydra.run.dir={run}",
    )  # fmt: skip
    assert done == code, err
    assert run.exists() is (code == 0)
    if code:
        assert f"monitor={monitor}: no such score of this char_rnn; did you mean val/" in err
        assert len(err.splitlines()) == 1
