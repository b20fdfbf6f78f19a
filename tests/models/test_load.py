"""Checkpoints: plain, complete, and refused with one line when they are not ours."""

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


def test_it_loads_without_data_and_sings(checkpoint) -> None:
    model = load_model(checkpoint)
    assert isinstance(model, LSTMMidi)
    assert not model.training
    assert model.codec == CODEC
    assert model.hparams["hidden"] == 8
    assert model.generate(1, 20, seed=1)[0] is not None


def test_lightnings_own_loading_works_too(checkpoint) -> None:
    model = LSTMMidi.load_from_checkpoint(checkpoint, weights_only=True)
    assert model.spec == CODEC.spec


def change(path, **changes) -> None:
    whole = torch.load(path, weights_only=True)
    whole.update(changes)
    torch.save(whole, path)


class Hostile:
    def __reduce__(self):
        return (print, ("executed!",))


def test_refusals(checkpoint, tmp_path, capsys) -> None:
    half = tmp_path / "half.ckpt"
    half.write_bytes(checkpoint.read_bytes()[: checkpoint.stat().st_size // 2])
    text = tmp_path / "text.ckpt"
    text.write_text("not a checkpoint")
    empty = tmp_path / "empty.ckpt"
    empty.touch()
    hostile = tmp_path / "hostile.ckpt"
    torch.save({"state_dict": Hostile()}, hostile)
    pickled = tmp_path / "pickle.ckpt"
    pickled.write_bytes(pickle.dumps(Hostile()))
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    tensor = tmp_path / "tensor.ckpt"
    torch.save(torch.zeros(3), tensor)
    for path, said in (
        (tmp_path / "missing.ckpt", "no such checkpoint"),
        (tmp_path, "not a whole checkpoint"),
        (half, "not a whole checkpoint"),
        (text, "not a whole checkpoint"),
        (empty, "not a whole checkpoint"),
        (hostile, "not a whole checkpoint"),
        (pickled, "not a whole checkpoint"),
        (foreign, "a checkpoint of another program"),
        (tensor, "a checkpoint of another program"),
    ):
        with pytest.raises(UserError, match=said) as e:
            load_model(path)
        assert str(path) in str(e.value)
        assert "\n" not in str(e.value)
    assert "executed" not in capsys.readouterr().out


def test_settings_that_do_not_fit(checkpoint) -> None:
    settings = dict(torch.load(checkpoint, weights_only=True)["hyper_parameters"])
    change(checkpoint, hyper_parameters={**settings, "hidden": 9})
    with pytest.raises(UserError, match="does not fit this version's lstm_midi"):
        load_model(checkpoint)
    change(checkpoint, hyper_parameters={**settings, "name": "harmonium"})
    with pytest.raises(UserError, match="a checkpoint of harmonium, not of"):
        load_model(checkpoint)
