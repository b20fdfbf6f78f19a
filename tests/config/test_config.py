"""Composition: every shipped config, every pair, and a message of one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from musegen.cli import evaluate, generate
from musegen.cli import train as train_module
from musegen.config.groups import GROUPS, config_choices
from musegen.config.instantiation import build_data, build_model, build_trainer
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.errors import UserError

ROLLS = [
    "bach_chorales", "jsb", "musedata", "nottingham", "nottingham_midi", "piano_midi",
    "piano_roll_folder",
]  # fmt: skip

MODELS_FOR: dict[str, set[str]] = {
    "anbn": {"char_rnn"},
    "names": {"char_rnn"},
    "names_faker": {"char_rnn"},
    "text": {"char_rnn"},
    "mnist": {"rbm"},
    "mnist_5k": {"rbm"},
    "mozart": {"lstm_midi"},
    "quartets": {"lstm_midi"},
    "midi_folder": {"lstm_midi"},
    "maestro": {"lstm_midi"},
    **{name: {"rnn_rbm", "rnn_nade", "biaxial_lstm"} for name in ROLLS},
    **{f"{name} data.view=frames": {"rbm"} for name in ROLLS},
}
"""Which models can read each data set, and each view of it."""

NEED_FILES = {"names18"}
"""Experiments whose spec depends on data files: the alphabet is read from them."""


def resolved(*overrides: str) -> dict:
    return resolve_config(compose_config([*overrides, "run_dir=unused"]))


def test_the_table_of_pairs_is_complete() -> None:
    assert {data.split()[0] for data in MODELS_FOR} == set(config_choices("data"))
    assert set.union(*MODELS_FOR.values()) == set(config_choices("model"))


@pytest.mark.parametrize("data", MODELS_FOR)
@pytest.mark.parametrize("model", config_choices("model"))
def test_only_legal_pairs_are_accepted(model: str, data: str) -> None:
    overrides = [f"model={model}", *f"data={data}".split()]
    if model in MODELS_FOR[data]:
        assert resolved(*overrides)["data"]["_target_"]
    else:
        with pytest.raises(UserError, match=r"reads .*, but .* yields .*; use data"):
            resolved(*overrides)


def test_a_view_that_the_model_cannot_read_is_refused() -> None:
    message = "model=rbm reads Frames, but data.view=rolls yields Rolls; use data.view=frames"
    with pytest.raises(UserError, match=message):
        resolved("model=rbm", "data=jsb")


def test_a_precision_too_low_for_free_energies_is_refused() -> None:
    message = (
        "16 bits do not hold the free energies of model=rnn_rbm; use bf16-mixed, 32-true or 64"
    )
    with pytest.raises(UserError, match=message):
        resolved("model=rnn_rbm", "data=jsb", "trainer.precision=bf16-true")
    resolved("model=char_rnn", "data=names", "trainer.precision=bf16-true")


@pytest.mark.parametrize(
    ("group", "name"),
    [(g, n) for g in GROUPS if g not in ("model", "data") for n in config_choices(g)],
)
def test_every_shipped_config_builds(group: str, name: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")  # online mode needs a key
    settings = resolve_config(compose_config([f"{group}={name}", f"run_dir={tmp_path}"]))
    data = build_data(settings)
    if name not in NEED_FILES:
        model = build_model(settings, data)
        assert isinstance(data.spec, model.reads)
        if group == "experiment":  # the others have the same settings of generation
            train_module.check_generation(settings, model)
    build_trainer(settings)


def test_defaults_are_added_and_interpolations_resolved() -> None:
    settings = resolved()
    assert settings["model"]["hidden"] == 256
    assert settings["data"]["batch_size"] == 32
    assert settings["monitor"] == "val/nll"
    assert settings["callbacks"]["checkpoint"]["monitor"] == "val/nll"
    assert "${" not in str(settings)


@pytest.mark.parametrize("value", ["/a/midé", "/a/b (1)", "ünï 日本.txt", "it's", "a=b", "C:\\new"])
def test_values_that_hydra_cannot_read_are_quoted(value: str) -> None:
    typed = ["data=midi_folder", f"data.root={value}"]
    cfg = compose_config([*typed, "run_dir=unused"])
    assert cfg.data.root == value


def test_any_constructor_parameter_can_be_set() -> None:
    settings = resolved("model.hidden=32", "data.codec.time_bins=9", "trainer.precision=bf16-mixed")
    data = build_data(settings)
    assert data.spec.times == 10
    assert build_model(settings, data).hparams["hidden"] == 32
    assert settings["trainer"]["precision"] == "bf16-mixed"


def test_the_course_experiment_has_the_sizes_of_the_course() -> None:
    settings = resolved("experiment=lstm_midi_course", "data=midi_folder")
    data = build_data(settings)
    assert data.spec.sizes == (79, 128, 11)
    model = build_model(settings, data)
    assert (model.lstm.hidden_size, model.lstm.num_layers) == (128, 1)
    assert model.lstm.input_size == 80 + 129 + 12
    assert (data.loss_on, data.window) == ("last", 30)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("model=lstm_mid", "model=lstm_mid: no such model config; did you mean lstm_midi?"),
        ("data=bach", "data=bach: no such data config; there are"),
        ("experiment=lstm", "experiment=lstm: no such experiment config"),
        ("modle=lstm_midi", "modle: no such key or group; did you mean mode or model"),
        ("sed=3", "sed: no such key or group; did you mean seed?"),
        ("dat.batch_size=3", "dat: no such key or group; did you mean data"),
        ("data.batchsize=16", "data.batchsize: no such setting; did you mean batch_size"),
        ("model.hiden=16", "model.hiden: no such setting; did you mean hidden"),
        ("optimizer.learning_rate=1", "optimizer.learning_rate: no such setting"),
        ("callbacks.early_stoping.patience=3", "did you mean early_stopping?"),
        ("sample.lenght=3", "sample.lenght: no such setting; did you mean length?"),
        ("trainer.max_epoch=1", "trainer.max_epoch: no such setting; did you mean max_epochs"),
        ("data.batch_size=sixteen", "data.batch_size=sixteen: should be a valid integer"),
        ("data.batch_size=1.5", "data.batch_size=1.5: should be a valid integer"),
        ("model.dropout=high", "model.dropout=high: should be a valid number"),
        ("model.heads=linked", "model.heads=linked: should be 'chained' or 'independent'"),
        ("optimizer.schedule=exp", "optimizer.schedule=exp: should be 'none', 'cosine' or 'plat"),
        ("optimizer.lr=-1", "optimizer.lr=-1: should be greater than 0"),
        ("seed=one", "seed=one: should be a valid integer"),
        ("data.batch_size", "cannot read 'data.batch_size': write key=value or group=name"),
        ("trainer.gpus=64", "torch sees"),
        ("trainer.max_epochs=many", "trainer.max_epochs=many: should be a valid integer"),
        ("trainer.precision=12", "trainer.precision=12: should be"),
        ("model.hidden=0", "hidden=0"),
        ("trainer.gpus=two", "trainer.gpus=two: should be"),
        ("data=midi_folder", "data=midi_folder needs a folder of MIDI files: add data.root=DIR"),
        ("data.window=0", "data.window=0: should be greater than or equal to 1"),
        ("data.codec.time_bin=9", "data.codec.time_bin: no such setting; did you mean time_bins"),
        ("data.codec.time_bins=1", "time_bins=1: should be greater than or equal to 2"),
        ("data.root=", "data.root=: empty; write data.root=PATH"),
        ("model=null", "a group cannot be null: write group=NAME"),
        ("callbacks.foo=1", "callbacks.foo: no such entry of callbacks; there are"),
        ("trainer.logger=false", "trainer.logger: not set here; use logger=NAME"),
        ("seed=-1", "seed=-1: should be greater than or equal to 0"),
        ("mode=most", "`mode` can be min, max but got most"),
        ("data.batch_size=true", "data.batch_size=True: should be a number or a name, not true"),
        ("optimizer.momentum=-1", "optimizer.momentum=-1: should be greater than or equal to 0"),
        ("optimizer.warmup_steps=-1", "optimizer.warmup_steps=-1: should be greater than or"),
        ("optimizer.factor=1", "optimizer.factor=1: should be less than 1"),
        ("optimizer.betas=[0.9,1]", "should be less than 1"),
        ("optimizer.nesterov=true", "needs optimizer.momentum above 0"),
        ("callbacks.samples.every=0", "callbacks.samples.every=0: should be greater than or"),
        ("callbacks.resume.minutes=0", "callbacks.resume.minutes=0: should be greater than 0"),
        ("callbacks.resume.steps=0", "callbacks.resume.steps=0: should be greater than or equal"),
    ],
)
def test_a_mistake_gives_one_line_with_the_remedy(
    cli, typed: str, message: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("datamodules.message_streams.convert_mozart", None)  # must not be called
    code, out, err = cli(train_module.main, typed)
    assert code == 1
    assert message in err
    assert "Traceback" not in out + err
    assert len(err.strip().splitlines()) <= 2


def test_bugs_keep_their_traceback(cli, monkeypatch) -> None:
    monkeypatch.setattr(train_module, "run", lambda settings: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli(train_module.main)


def test_help_lists_the_choices(cli) -> None:
    code, out, _ = cli(train_module.main, "--help")
    assert code == 0
    for group in GROUPS:
        for name in config_choices(group):
            assert name in out


@pytest.mark.parametrize(
    ("main", "arguments", "message"),
    [
        (generate.main, [], "which run? musegen generate run="),
        (generate.main, ["run=none"], "run=none: no such run"),
        (generate.main, ["run"], "cannot read 'run': write key=value"),
        (evaluate.main, [], "which run? musegen evaluate run="),
        (evaluate.main, ["run=none"], "run=none: no such run"),
        (evaluate.main, ["run"], "which run? musegen evaluate run="),
    ],
)
def test_generate_and_evaluate_need_a_run(cli, main, arguments: list[str], message: str) -> None:
    code, out, err = cli(main, *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"musegen: {message}")
    assert len(err.splitlines()) == 1


def test_an_unwritable_run_folder_gives_one_line(cli, tmp_path: Path, midi_folder: Path) -> None:
    (tmp_path / "file").touch()
    code, _, err = cli(
        train_module.main, "data=midi_folder", f"data.root={midi_folder}",
        f"hydra.run.dir={tmp_path}/file/run",
    )  # fmt: skip
    assert code == 1
    assert "file" in err
    assert len(err.strip().splitlines()) == 1
