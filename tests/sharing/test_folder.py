"""The folder of a shared model: every kind of model comes back equal, and nothing is unpickled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from musegen.codecs.chars import CharCodec
from musegen.codecs.messages import MessageCodec
from musegen.codecs.roll_codec import RollCodec
from musegen.errors import UserError
from musegen.models import Model
from musegen.models.biaxial_lstm import BiaxialLSTM
from musegen.models.char_rnn import CharRNN
from musegen.models.lstm_midi import LSTMMidi
from musegen.models.rbm import RBM
from musegen.models.rnn_nade import RNNNADE
from musegen.models.rnn_rbm import RNNRBM
from musegen.sharing.folder import read_config, read_model, write_model
from musegen.specs import Frames, LabelledTokens

MESSAGES = MessageCodec((40, 50), velocity_bins=3, time_bins=4)
ROLLS = RollCodec((60, 64), dt=0.25)
NAMES = CharCodec("ab", labels=("Dutch", "Greek"))


def named_model() -> CharRNN:
    model = CharRNN(
        LabelledTokens(NAMES.spec.vocab_size, 2), NAMES, hidden=3, ngram_weight=0.5, dtype="float64"
    )
    assert model.ngram is not None
    model.ngram.fit([[0, 1], [1, 1, 0]], [0, 1])
    return model


MODELS = {
    "char_rnn": named_model,
    "lstm_midi": lambda: LSTMMidi(MESSAGES.spec, MESSAGES, hidden=4, embedding=(2, 2, 2)),
    "rbm": lambda: RBM(Frames(6), hidden=3),
    "rnn_rbm": lambda: RNNRBM(ROLLS.spec, ROLLS, hidden=3, recurrent=2),
    "rnn_nade": lambda: RNNNADE(ROLLS.spec, ROLLS, hidden=3, recurrent=2),
    "biaxial_lstm": lambda: BiaxialLSTM(ROLLS.spec, ROLLS, hidden=4, note_hidden=4),
}
SHORT = {"rbm": {"rows": 1, "n": 2, "steps": 1}, "char_rnn": {"length": 5}}


def write(folder: Path, kind: str, half: bool = False) -> Model:
    torch.manual_seed(0)
    model = MODELS[kind]()
    write_model(model.eval(), folder, half)
    return model


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_comes_back_equal(kind: str, tmp_path: Path) -> None:
    model = write(tmp_path, kind)
    again = read_model(tmp_path)
    assert type(again) is type(model)
    assert not again.training
    assert (again.spec, again.codec) == (model.spec, model.codec)
    state = again.state_dict()
    for name, value in model.state_dict().items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(state[name], value), name
        else:
            assert state[name] == value, name
    settings = {"n": 1, "length": 4, **SHORT.get(kind, {})}
    settings = settings if kind != "rbm" else SHORT["rbm"]
    assert str(again.generate(seed=3, **settings)) == str(model.generate(seed=3, **settings))


def test_half_precision_halves_float32_and_keeps_float64(tmp_path: Path) -> None:
    model = write(tmp_path / "a", "rnn_nade", half=True)
    assert {t.dtype for t in load_file(tmp_path / "a" / "model.safetensors").values()} <= {
        torch.float16,
        torch.int64,
        torch.bool,
    }
    again = read_model(tmp_path / "a")
    for old, new in zip(model.parameters(), again.parameters(), strict=True):
        assert new.dtype == torch.float32
        torch.testing.assert_close(new, old, rtol=1e-3, atol=1e-6)
    write(tmp_path / "b", "char_rnn", half=True)  # float64 for long counts
    assert load_file(tmp_path / "b" / "model.safetensors")["out.weight"].dtype == torch.float64


def test_the_config_is_plain_json(tmp_path: Path) -> None:
    write(tmp_path, "lstm_midi")
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["library_name"] == "musegen"
    assert config["model_type"] == "lstm_midi"
    assert config["settings"]["embedding"] == [2, 2, 2]
    assert config["codec"]["pitch_range"] == [40, 50]
    assert config["spec"]["kind"] == "messages"


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    write(tmp_path, "rbm")
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    whole, bytes_ = config.read_text(), weights.read_bytes()

    def refused(match: str) -> None:
        with pytest.raises(UserError, match=match) as e:
            read_model(tmp_path)
        assert "\n" not in str(e.value)

    config.write_text("{}")
    refused("not the config of a model of musegen")
    config.write_text(whole.replace('"format": 1', '"format": 2'))
    refused("format 2, written by musegen")
    config.write_text(whole.replace('"hidden": 3', '"hidden": 4'))
    refused("does not fit this version's rbm")
    config.write_text(whole.replace('"model_type": "rbm"', '"model_type": "harmonium"'))
    refused("known models")
    config.write_text(whole)
    weights.write_bytes(bytes_[:100])
    refused("model.safetensors: cannot be read")
    save_file({"json:x": torch.tensor([1, 2], dtype=torch.uint8)}, weights)
    refused("json:x is damaged")


def test_a_class_outside_musegen_is_not_imported(tmp_path: Path) -> None:
    write(tmp_path, "rbm")
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("musegen.models.rbm.RBM", "os.path.join"))
    with pytest.raises(UserError, match=r"its model os\.path\.join is not part of musegen"):
        read_model(tmp_path)
    assert read_config(tmp_path)["import_path"] == "os.path.join"
