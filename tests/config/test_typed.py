"""Texts and paths are taken as they are typed, by all commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from musegen.cli import generate
from musegen.cli import train as train_module
from musegen.config.instantiation import build_data
from musegen.config.overrides import compose_config, force_add_overrides, quote_override
from musegen.config.resolve import resolve_config
from musegen.config.typed import absolute_overrides, merge_typed, read_typed
from musegen.config.validation import check_settings
from musegen.models.char_rnn import CharRNN
from musegen.models.lstm_midi import LSTMMidi

TEXTS = ["No", "1984", "007", "1e3", "1_000", "true", "plain #2", "Bach: Prelude.mid", "[1] a.mid",
         "[x]", "{a}", "my/Bach, J. S", "x=1,y=2", "it's", "a\\", "a\\'b", "- x", "a&b",
         "null.mid"]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_tools_take_texts_as_typed(text: str) -> None:
    path = f"folder/{text}"
    assert read_typed(generate.generate, {"run": text, "out": text}) == {"run": text, "out": text}
    assert read_typed(CharRNN.generate, {"label": text}) == {"label": text}
    checked = check_settings(
        LSTMMidi.generate, read_typed(LSTMMidi.generate, {"prime": path, "n": "3"}), "generate"
    )
    assert checked == {"prime": Path(path), "n": 3}


def test_other_values_are_read_as_yaml() -> None:
    typed = {"prime": "null", "n": "4", "temperature": "1e-1", "include_prime": "true"}
    assert read_typed(LSTMMidi.generate, typed) == {
        "prime": None, "n": 4, "temperature": 0.1, "include_prime": True
    }  # fmt: skip
    assert read_typed(LSTMMidi.generate, {"n": "a: b: c"}) == {"n": "a: b: c"}


@pytest.mark.parametrize("text", TEXTS)
def test_training_takes_texts_as_typed(text: str) -> None:
    names = ["model=char_rnn", "data=names", f"data.root={text}", f"sample.label={text}"]
    settings = resolve_config(compose_config([*names, "run_dir=unused"]))
    assert settings["sample"]["label"] == text
    assert Path(settings["data"]["root"]).relative_to(Path.cwd()) == Path(text)


@pytest.mark.parametrize("text", TEXTS)
def test_evaluation_takes_texts_as_typed(text: str) -> None:
    cfg = compose_config(["data=midi_folder", "run_dir=unused"])
    merge_typed(cfg, [f"data.root={text}", "trainer.limit_test_batches=2", "assess.a=x"])
    assert cfg.data.root == text
    assert cfg.trainer.limit_test_batches == 2


def test_the_run_folder_is_taken_as_typed(cli, tmp_path: Path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(train_module, "run", lambda settings: seen.append(settings) or 0.0)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for typed in ("runs/x=1,y=2", "1e3", "~/x, y"):
        assert cli(train_module.main, f"hydra.run.dir={typed}")[0] == 0
    folders = [tmp_path / "runs/x=1,y=2", tmp_path / "1e3", tmp_path / "home/x, y"]
    assert [Path(settings["run_dir"]) for settings in seen] == folders
    root = ["data=midi_folder", "data.root=my/Bach, J. S"]
    assert cli(train_module.main, *root)[0] == 0
    assert seen[-1]["data"]["root"] == str(tmp_path / "my/Bach, J. S")
    assert cli(train_module.main, "data=midi_folder", "data.root=2024")[0] == 0
    assert seen[-1]["data"]["root"] == str(tmp_path / "2024")


def test_a_comma_separates_values_in_a_sweep_only() -> None:
    assert quote_override("data.root=a,b") == "data.root='a,b'"
    assert quote_override("data.root=a,b", sweep=True) == "data.root=a,b"
    assert force_add_overrides(["-m", "data.root=a,b"]) == ["-m", "++data.root=a,b"]
    assert quote_override("model=a,b") == "model=a,b"


def test_home_is_expanded_in_every_path(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    typed = ["data=midi_folder", "data.root=~/midi", "sample.prime=~/a.mid", "run_dir=~/run"]
    settings = resolve_config(compose_config(typed))
    assert build_data(settings).root == tmp_path / "midi"
    assert settings["sample"]["prime"] == tmp_path / "a.mid"
    assert settings["run_dir"] == f"{tmp_path}/run"
    checked = check_settings(generate.generate, {"run": "~/run", "out": "~/out"}, "generate")
    assert checked == {"run": tmp_path / "run", "out": tmp_path / "out"}


@pytest.mark.parametrize("out", ["no", "007", "Bach: 1"])
def test_generate_finds_runs_and_folders_as_typed(cli, tmp_path: Path, out: str) -> None:
    tiny = ["model=char_rnn", "data=anbn", "data.train_size=100", "data.count_to=5",
            "model.hidden=4", "trainer.max_epochs=1", "sample=null"]  # fmt: skip
    code, _, err = cli(train_module.main, *tiny, f"hydra.run.dir={tmp_path}/plain #2")
    assert code == 0, err
    code, _, err = cli(generate.main, "run=plain #2", f"out={out}")
    assert code == 0, err
    assert [p.name for p in (tmp_path / out).iterdir()] == ["samples.txt"]


def test_a_resumed_run_finds_its_data_from_another_folder(tmp_path: Path, monkeypatch) -> None:
    typed = ["data=midi_folder", "data.root=midi", "sample.prime=a, b.mid", "data.window=9"]
    monkeypatch.chdir(tmp_path)
    settings = resolve_config(compose_config([*typed, "run_dir=unused"]))
    assert absolute_overrides(settings, typed) == [
        "data=midi_folder", f"data.root={tmp_path}/midi", f"sample.prime={tmp_path}/a, b.mid",
        "data.window=9",
    ]  # fmt: skip
    assert settings["data"]["root"] == f"{tmp_path}/midi"
