"""Checkpoints: plain values only; damaged files and those of other programs are refused."""

from __future__ import annotations

import pickle

import pytest
import pytorch_lightning as pl
import torch

from musegen.codecs.messages import MessageCodec
from musegen.errors import UserError
from musegen.models import load_model
from musegen.models.lstm_midi import LSTMMidi

CODEC = MessageCodec(velocity_bins=7)


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy.connect(LSTMMidi(CODEC.spec, CODEC, hidden=8, layers=1))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def test_a_loaded_model_generates_without_data(checkpoint) -> None:
    model = load_model(checkpoint)
    assert isinstance(model, LSTMMidi)
    assert not model.training
    assert model.codec == CODEC
    assert model.hparams["hidden"] == 8
    torch.manual_seed(0)
    saved = LSTMMidi(CODEC.spec, CODEC, hidden=8, layers=1)
    (notes,), (expected,) = model.generate(1, 20, seed=1), saved.generate(1, 20, seed=1)
    assert len(notes)
    assert notes.tolist() == expected.tolist()


def test_load_from_checkpoint_of_lightning(checkpoint) -> None:
    model = LSTMMidi.load_from_checkpoint(checkpoint, weights_only=True)
    assert model.spec == CODEC.spec


def change(path, **changes) -> None:
    contents = torch.load(path, weights_only=True)
    contents.update(changes)
    torch.save(contents, path)


class RunsCode:
    """Executes code when it is unpickled."""

    def __reduce__(self):
        return (print, ("executed!",))


def test_other_files_are_refused(checkpoint, tmp_path, capsys) -> None:
    half = tmp_path / "half.ckpt"
    half.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2])
    text = tmp_path / "text.ckpt"
    text.write_text("not a checkpoint")
    empty = tmp_path / "empty.ckpt"
    empty.touch()
    malicious = tmp_path / "malicious.ckpt"
    torch.save({"state_dict": RunsCode()}, malicious)
    pickled = tmp_path / "pickle.ckpt"
    pickled.write_bytes(pickle.dumps(RunsCode()))
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    tensor = tmp_path / "tensor.ckpt"
    torch.save(torch.zeros(3), tensor)
    for path, message in (
        (tmp_path / "missing.ckpt", "no such checkpoint"),
        (tmp_path, "checkpoint"),
        (half, "checkpoint"),
        (text, "checkpoint"),
        (empty, "checkpoint"),
        (malicious, "checkpoint"),
        (pickled, "checkpoint"),
        (foreign, "a checkpoint of another program"),
        (tensor, "a checkpoint of another program"),
    ):
        with pytest.raises(UserError, match=message) as e:
            load_model(path)
        assert str(path) in str(e.value)
        assert "\n" not in str(e.value)
    assert "executed" not in capsys.readouterr().out


def test_settings_that_do_not_fit_are_refused(checkpoint) -> None:
    settings = dict(torch.load(checkpoint, weights_only=True)["hyper_parameters"])
    change(checkpoint, hyper_parameters={**settings, "hidden": 9})
    with pytest.raises(UserError, match="does not fit this version's lstm_midi"):
        load_model(checkpoint)
    change(checkpoint, hyper_parameters={**settings, "name": "harmonium"})
    with pytest.raises(UserError, match="a checkpoint of harmonium; known models"):
        load_model(checkpoint)


@pytest.mark.parametrize("named", ["", "os.path.join", "musegen.models.rbm.RBM", "their_model.M"])
def test_a_foreign_class_is_imported_only_if_its_config_names_it(
    checkpoint, tmp_path, monkeypatch, named: str
) -> None:
    (tmp_path / "their_model.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    if named:
        (tmp_path / "run" / "config.yaml").write_text(f"model:\n  _target_: {named}\n")
    contents = torch.load(checkpoint, weights_only=True)
    contents["hyper_parameters"]["import_path"] = "their_model.M"
    torch.save(contents, path)
    if named == "their_model.M":
        with pytest.raises(SystemExit, match="imported"):
            load_model(path)
    else:
        with pytest.raises(UserError, match=r"their_model\.M"):
            load_model(path)
