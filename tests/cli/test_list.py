"""`musegen list`: what there is, what it needs, and the runs of a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from musegen.cli.main import main
from musegen.config.groups import config_choices
from musegen.config.listing import data_sets, experiments, header


def entries(out: str) -> dict[str, str]:
    """The text below each name of a list."""
    found: dict[str, str] = {}
    name = ""
    for line in out.splitlines()[1:]:
        if line.startswith("      "):
            found[name] += " " + line.strip()
        else:
            name = line.strip()
            found[name] = ""
    return found


def test_every_model_is_listed_with_the_data_that_it_reads(cli) -> None:
    code, out, err = cli(main, "list", "what=models")
    assert (code, err) == (0, "")
    found = entries(out)
    assert set(config_choices("model")) <= set(found)
    assert found["lstm_midi"].endswith("data=maestro|midi_folder|mozart|quartets")
    assert found["char_rnn"].endswith("data=anbn|names|names_faker|text")


def test_data_sets_say_what_they_need_and_whether_it_is_here(
    cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MUSEGEN_DATA", str(tmp_path))
    before = {e.name: e.details[0] for e in data_sets()}
    assert set(before) == set(config_choices("data"))
    assert before["jsb"].endswith("(not here yet)")
    assert before["names"].endswith("(not here yet)")
    assert before["mozart"].endswith("(not here yet)")
    assert before["anbn"] == "needs nothing (here)"
    assert before["midi_folder"] == "needs data.root=DIR (your own files)"
    assert before["names_faker"].endswith("(here)")  # the tests install Faker
    (tmp_path / "icml2012").mkdir()
    (tmp_path / "icml2012" / "JSB_Chorales.mat").touch()
    after = {e.name: e.details[0] for e in data_sets()}
    assert {name for name in after if after[name] != before[name]} == {"jsb"}
    assert after["jsb"].endswith("(here)")


def test_every_experiment_says_what_it_reaches_and_its_size() -> None:
    found = experiments()
    assert [e.name for e in found] == config_choices("experiment")
    for entry in found:
        assert entry.text
        reaches, size = entry.details
        assert reaches.startswith("reaches: ")
        assert " weights" in size


def test_the_header_of_an_experiment(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "# @package _global_\n# What it is,\n# in two lines. More.\n# Reaches: 1.5 nats,\n"
        "#   at best.\n# Takes: 3 weights.\ndefaults: []\n# Reaches: not this\n"
    )
    assert header(file) == {
        "is": "What it is, in two lines.",
        "Reaches": "1.5 nats, at best",
        "Takes": "3 weights",
    }


def test_runs_are_listed_with_their_test_metrics(cli, tmp_path: Path) -> None:
    config = "model:\n  _target_: a.B\ndata:\n  _target_: c.D\n"
    done, stopped = tmp_path / "runs" / "x" / "done", tmp_path / "runs" / "stopped"
    for run in (done, stopped):
        (run / "checkpoints").mkdir(parents=True)
        (run / "config.yaml").write_text(config)
    (done / "test.json").write_text(json.dumps({"nll": 1.23456, "note": 2.0}))
    (stopped / "checkpoints" / "last.ckpt").touch()
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "other" / "config.yaml").write_text("a: 1\n")
    code, out, err = cli(main, "list", "what=runs")
    assert (code, err) == (0, "")
    found = entries(out)
    assert "B on D, " in found["runs/x/done"]
    assert found["runs/x/done"].endswith("test: nll 1.235, note 2")
    assert found["runs/stopped"].endswith("not finished; to resume: resume=runs/stopped")
    assert "runs/other" not in found


def test_an_empty_folder_has_no_runs(cli) -> None:
    code, out, _ = cli(main, "list", "what=runs", "runs=nowhere")
    assert (code, out) == (0, "Runs: musegen generate run=FOLDER\n  none\n\n")


def test_a_wrong_part_is_refused_in_one_line(cli) -> None:
    code, _, err = cli(main, "list", "what=tunes")
    assert code == 1
    assert err.startswith("musegen: list.what=tunes: should be ")
