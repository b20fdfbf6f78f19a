"""Old names of settings, values and classes: each is refused with the new name, in one line."""

from __future__ import annotations

import pytest

from musegen.config.overrides import compose_config
from musegen.config.renamed import RENAMED_SETTINGS, RENAMED_TARGETS, RENAMED_VALUES
from musegen.config.resolve import resolve_config
from musegen.config.signatures import target_of
from musegen.config.validation import check_settings
from musegen.errors import UserError
from musegen.models import RNNRBM

RNN_RBM = ["model=rnn_rbm", "data=piano_roll_folder"]
CHAR_RNN = ["model=char_rnn", "data=anbn"]
LSTM_MIDI = ["model=lstm_midi", "data=midi_folder"]
COMMAND_LINE = [
    (LSTM_MIDI, "data.teach=every", "data.loss_on=all"),
    (LSTM_MIDI, "data.teach=last", "data.loss_on=last"),
    (LSTM_MIDI, "data.loss_on=every", "data.loss_on=all"),
    (LSTM_MIDI, "model.held=64", "model.active_note_dim=64"),
    (RNN_RBM, "model.heads=4", "model.attention_heads=4"),
    (RNN_RBM, "model.span=512", "model.attention_span=512"),
    (RNN_RBM, "model.learn_start=True", "model.learn_initial_state=True"),
    (RNN_RBM, "model.rbm_rate=0.5", "model.rbm_lr_factor=0.5"),
    (RNN_RBM, "model.val_share=0.5", "model.val_fraction=0.5"),
    (CHAR_RNN, "model.ngram_share=0.3", "model.ngram_weight=0.3"),
    (RNN_RBM, "sample.temperatures=300", "sample.ais_steps=300"),
    (RNN_RBM, "preview.temperatures=300", "preview.ais_steps=300"),
    (RNN_RBM, "assess.temperatures=300", "assess.ais_steps=300"),
    (RNN_RBM, "data.repeats=held", "data.repeats=sustain"),
    (RNN_RBM, "data.repeats=struck", "data.repeats=retrigger"),
    (RNN_RBM, "sample.repeats=held", "sample.repeats=sustain"),
    (RNN_RBM, "sample.repeats=struck", "sample.repeats=retrigger"),
    (RNN_RBM, "preview.repeats=held", "preview.repeats=sustain"),
    (RNN_RBM, "preview.repeats=struck", "preview.repeats=retrigger"),
    (LSTM_MIDI, "monitor=val/nats", "monitor=val/nll"),
    (CHAR_RNN, "monitor=val/bits", "monitor=val/bpc"),
]
GENERATE = [
    ({"temperatures": 300}, "generate.temperatures=300", "generate.ais_steps=300"),
    ({"repeats": "held"}, "generate.repeats=held", "generate.repeats=sustain"),
    ({"repeats": "struck"}, "generate.repeats=struck", "generate.repeats=retrigger"),
]


@pytest.mark.parametrize(("config", "old", "new"), COMMAND_LINE)
def test_an_old_name_is_refused_with_the_new_one(config: list[str], old: str, new: str) -> None:
    with pytest.raises(UserError) as e:
        resolve_config(compose_config([*config, old, "run_dir=unused"]))
    assert str(e.value) == f"{old} was renamed: write {new}"


@pytest.mark.parametrize(("settings", "old", "new"), GENERATE)
def test_an_old_name_of_generate_is_refused(settings: dict, old: str, new: str) -> None:
    with pytest.raises(UserError) as e:
        check_settings(RNNRBM.generate, settings, "generate")
    assert str(e.value) == f"{old} was renamed: write {new}"


def test_every_row_of_the_tables_is_tested() -> None:
    typed = [old for _, old, _ in [*COMMAND_LINE, *GENERATE]]
    for setting in RENAMED_SETTINGS:
        assert any(old.startswith(f"{setting}=") for old in typed), setting
    for setting, values in RENAMED_VALUES.items():
        for value in values:
            assert f"{setting}={value}" in typed


def test_new_names_exist() -> None:
    """Each new name is accepted by the models that had the old one."""
    for config, _, new in COMMAND_LINE:
        resolve_config(compose_config([*config, new, "run_dir=unused"]))


def test_heads_of_lstm_midi_keep_their_name() -> None:
    typed = [*LSTM_MIDI, "model.heads=independent", "run_dir=unused"]
    assert resolve_config(compose_config(typed))["model"]["heads"] == "independent"
    with pytest.raises(UserError, match=r"model\.heads: no such setting"):
        resolve_config(compose_config([*CHAR_RNN, "model.heads=4", "run_dir=unused"]))


@pytest.mark.parametrize("old", [*RENAMED_TARGETS, "musegen.callbacks.samples.Samples"])
def test_an_old_target_is_refused_with_the_new_one(old: str) -> None:
    with pytest.raises(UserError) as e:
        target_of({"_target_": old}, "data")
    message, new = str(e.value).split(": write data._target_=")
    assert message == f"data._target_={old} was renamed"
    assert target_of({"_target_": new}, "data") is not None
