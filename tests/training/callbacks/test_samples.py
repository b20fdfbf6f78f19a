"""Samples during training: files, loggers and seed; and the training does not change."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch

from datamodules.grammar_strings import GrammarStrings
from musegen.cli import train
from musegen.config.instantiation import build_data, build_model, build_trainer
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.errors import UserError
from musegen.models import MODELS
from musegen.models.char_rnn import CharRNN
from musegen.specs import Frames, LabelledTokens, Messages, Rolls, Tokens
from musegen.training.callbacks.samples import Samples

SHORT = {
    Frames: ["n=4", "rows=2", "steps=5"],
    Rolls: ["n=1", "length=8"],
    Messages: ["n=1", "length=20"],
    Tokens: ["n=3", "length=10"],
}
"""Settings of samples that take little time."""

DATA = {
    Frames: ["data=piano_roll_folder", "data.view=frames", "data.batch_size=20"],
    Rolls: ["data=piano_roll_folder"],
    Messages: ["data=midi_folder", "data.window=16", "data.batch_size=4"],
    Tokens: ["data=anbn", "data.train_size=20", "data.batch_size=10", "data.val_n=[1,3]"],
}
"""Data without a download for the first spec that a model reads."""

SHOWN = {
    Frames: {"pictures/sheet"},
    Rolls: {"pictures/00", "audio/00"},
    Messages: {"pictures/00", "audio/00"},
    Tokens: {"texts/text_summary"},
    LabelledTokens: {"texts/text_summary"},
}
"""What TensorBoard must show."""

FINAL_FILES = {
    Frames: {"sheet.png"},
    Rolls: {"00.mid", "00.wav", "00.png"},
    Messages: {"00.mid", "00.wav", "00.png"},
    Tokens: {"samples.txt"},
    LabelledTokens: {"samples.txt"},
}
"""The files in the folder of samples after training."""


def fitted(
    folder: Path, midi_folder: Path, name: str, *overrides: str
) -> tuple[pl.LightningModule, pl.Trainer]:
    """A model and its trainer after two epochs of a run of the command line."""
    data = DATA[MODELS[name].reads[0]]
    root = [f"data.root={midi_folder}"] if any("folder" in d for d in data) else []
    settings = resolve_config(
        compose_config(
            [f"model={name}", *data, *root, "model.hidden=8", "trainer.max_epochs=2",
             f"run_dir={folder}", *overrides]
        )
    )  # fmt: skip
    trainer = build_trainer(settings)
    pl.seed_everything(settings["seed"], verbose=False)
    module = build_data(settings)
    model = build_model(settings, module)
    module.prepare_data()
    module.setup()
    trainer.fit(model, datamodule=module)
    return model, trainer


@pytest.mark.parametrize("name", MODELS)
def test_sampling_changes_no_weight(name: str, tmp_path: Path, midi_folder: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    without, _ = fitted(tmp_path / "a", midi_folder, name, "callbacks.samples=null", "logger=[]")
    short = SHORT[MODELS[name].reads[0]]
    previews = [f"preview.{setting}" for setting in short]
    sampled, trainer = fitted(
        tmp_path / "b", midi_folder, name, *previews, "callbacks.samples.every=1",
        "logger=[csv,tensorboard]",
    )  # fmt: skip
    for key, weights in without.state_dict().items():
        assert torch.equal(weights, sampled.state_dict()[key]), key

    kind = type(sampled.spec)
    filters = set() if sampled.filters() is None else {"filters.png"}
    for epoch in ("epoch_001", "epoch_002"):
        written = {path.name for path in (tmp_path / "b" / "previews" / epoch).iterdir()}
        assert written == FINAL_FILES[kind] | filters
    board = str(tmp_path / "b" / "tensorboard")
    tags = events.EventAccumulator(board).Reload().Tags()
    assert {*tags["images"], *tags["audio"], *tags["tensors"]} >= SHOWN[kind]
    assert ("pictures/filters" in tags["images"]) == bool(filters)

    # The samples made after training are shown too, beside the previews.
    sample = {key: int(value) for key, value in (setting.split("=") for setting in short)}
    settings = {"sample": sample, "sound": "piano", "run_dir": str(tmp_path / "b")}
    train.sample(settings, sampled, trainer)
    assert {path.name for path in (tmp_path / "b" / "samples").iterdir()} == FINAL_FILES[kind]
    shown = events.EventAccumulator(board).Reload().Tags()
    final = {f"final/{tag}" for tag in SHOWN[kind]}
    assert {*shown["images"], *shown["audio"], *shown["tensors"]} >= SHOWN[kind] | final


def test_every_third_epoch_has_samples_with_the_same_seed(tmp_path: Path) -> None:
    spec = GrammarStrings().spec
    model = CharRNN(spec, GrammarStrings().codec, cell="rnn", hidden=2)
    callback = Samples(tmp_path, every=3, settings={"n": 5})
    trainer = SimpleNamespace(current_epoch=0, global_step=0, loggers=[])
    for trainer.current_epoch in range(7):
        callback.on_train_epoch_end(trainer, model)
    folders = sorted(tmp_path.iterdir())
    assert [folder.name for folder in folders] == ["epoch_003", "epoch_006"]
    third, sixth = ((folder / "samples.txt").read_text() for folder in folders)
    assert third == sixth  # the weights have not changed
    assert len(third.splitlines()) == 5


def test_the_interval_must_be_positive() -> None:
    with pytest.raises(UserError, match="every=0"):
        Samples(Path(), every=0)


def test_settings_of_the_preview_are_checked_before_any_work() -> None:
    with pytest.raises(UserError, match=r"preview\.lenght: .* did you mean length\?"):
        resolve_config(compose_config(["preview.lenght=3", "run_dir=unused"]))
