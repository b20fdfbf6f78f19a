"""The search for settings: its trials, pruning, what it keeps and what it refuses."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from musegen.cli import sweep
from musegen.errors import UserError

TINY = ["model=char_rnn", "data=anbn", "data.train_size=200", "data.count_to=5", "sample=null",
        "callbacks.samples=null", "trainer.max_epochs=3"]  # fmt: skip


def load_study(out: Path) -> optuna.Study:
    return optuna.load_study(study_name="musegen", storage=f"sqlite:///{out / 'study.db'}")


def test_a_search_keeps_its_trials_and_resumes(cli, tmp_path: Path) -> None:
    out = tmp_path / "study"
    searched = [
        "model.hidden=int(interval(2,6))",
        "model.cell=gru,lstm",
        "optimizer.lr=tag(log,interval(1e-6,1e-1))",
    ]
    command = [*TINY, *searched, f"out={out}", "prune=false"]
    code, printed, err = cli(sweep.main, *command, "trials=2")
    assert code == 0, err
    study = load_study(out)
    assert len(study.trials) == 2
    for trial in study.trials:
        assert 2 <= trial.params["model.hidden"] <= 6
        assert trial.params["model.cell"] in ("gru", "lstm")
        config = (out / str(trial.number) / "config.yaml").read_text()
        assert f"hidden: {trial.params['model.hidden']}\n" in config
    assert f"best {study.best_value:.6f} in {out / str(study.best_trial.number)}" in printed

    # A search that was killed during a trial tries the same values again.
    left = study.ask()
    left.suggest_int("model.hidden", 2, 6)
    left.suggest_categorical("model.cell", ["gru", "lstm"])
    left.suggest_float("optimizer.lr", 1e-6, 1e-1, log=True)
    code, _, err = cli(sweep.main, *command, "trials=3")
    assert code == 0, err
    trials = load_study(out).trials
    assert [t.state for t in trials[2:]] == [TrialState.FAIL, TrialState.COMPLETE]
    assert trials[3].params == trials[2].params
    code, printed, _ = cli(sweep.main, *command, "trials=3")
    assert code == 0
    assert "trial " not in printed
    assert len(load_study(out).trials) == 4


def test_a_bad_trial_is_pruned(monkeypatch, cli, tmp_path: Path) -> None:
    strict = optuna.pruners.ThresholdPruner(upper=0)
    monkeypatch.setattr(optuna.pruners, "MedianPruner", lambda: strict)
    code, _, err = cli(sweep.main, *TINY, "model.hidden=2,3", "trials=2", f"out={tmp_path / 's'}")
    assert code == 1
    assert "no trial was completed" in err
    assert {t.state for t in load_study(tmp_path / "s").trials} == {TrialState.PRUNED}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["model.hidden=4"], "nothing to search"),
        (["model.hiden=4,8"], "did you mean hidden?"),
        (["model.hidden=4,8", "trials=many"], "sweep.trials=many: should be"),
        (["model.hidden=4,8", "trials=0"], "trials=0: should be greater than or equal to 1"),
        (["model.hidden=4,8", "trainer.accelerator=cpu", "trainer.devices=2"], "add prune=false"),
    ],
)  # fmt: skip
def test_wrong_searches_are_refused(cli, tmp_path: Path, typed: list[str], message: str) -> None:
    code, _, err = cli(sweep.main, *TINY, *typed, f"out={tmp_path / 's'}")
    assert code == 1
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "s").exists()


def values(typed: str, trials: int = 40) -> set[str]:
    (override,) = sweep._parse([typed])[1]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return {sweep.suggested(study.ask(), override).partition("=")[2] for _ in range(trials)}


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("range(1,10,4)", {"1", "5", "9"}),
        ("range(1,4)", {"1", "2", "3"}),
        ("range(1,9,4)", {"1", "5"}),
        ("range(10,1,-3)", {"10", "7", "4"}),
        ("range(0.1,0.5,0.1)", {"0.1", "0.2", "0.3", "0.4"}),
    ],
)
def test_a_range_is_that_of_python(typed: str, expected: set[str]) -> None:
    assert values(f"model.hidden={typed}") == expected


@pytest.mark.parametrize("typed", ["range(4,4)", "range(1,4,0)", "interval(4,2)",
                                   "tag(log,interval(0,1))"])  # fmt: skip
def test_a_space_without_values_is_refused(cli, tmp_path: Path, typed: str) -> None:
    code, _, err = cli(sweep.main, *TINY, f"optimizer.lr={typed}", f"out={tmp_path / 's'}")
    assert code == 1
    assert err.startswith("musegen: optimizer.lr=")
    assert len(err.strip().splitlines()) == 1


def test_a_search_without_a_score_ends(cli, tmp_path: Path, monkeypatch) -> None:
    search = [*TINY, "model.hidden=2,3", f"out={tmp_path / 's'}", "trials=2"]
    code, _, err = cli(sweep.main, *search, "callbacks.checkpoint.monitor=null")
    assert code == 1
    assert "add callbacks.checkpoint.monitor=val/nll" in err
    monkeypatch.setattr(sweep.train, "run", lambda *_: float("nan"))
    code, _, err = cli(sweep.main, *search)
    assert code == 1
    assert "no trial was completed (2 pruned)" in err
    assert len(err.strip().splitlines()) == 1


def test_a_refused_trial_prints_no_traceback(cli, tmp_path: Path, monkeypatch) -> None:
    def refuse(*_):
        raise UserError("model.hidden=3: no")

    monkeypatch.setattr(sweep.train, "run", refuse)
    code, _, err = cli(sweep.main, *TINY, "model.hidden=2,3", f"out={tmp_path / 's'}")
    assert (code, err) == (1, "musegen: model.hidden=3: no\n")


def test_another_search_in_the_same_folder_is_refused(cli, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sweep.train, "run", lambda *_: 1.0)
    search = [*TINY, f"out={tmp_path / 's'}", "trials=1"]
    assert cli(sweep.main, *search, "model.hidden=2,3")[0] == 0
    for other in (["model.hidden=4,5"], ["model.hidden=2,3", "model.layers=2"]):
        code, _, err = cli(sweep.main, *search, *other)
        assert code == 1
        assert f"out={tmp_path / 's'}: this folder holds another search (model." in err
        assert len(err.strip().splitlines()) == 1
