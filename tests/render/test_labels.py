"""Every setting and every metric of the shipped models has a readable name and an explanation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.models import MODELS
from musegen.render.metric_labels import METRICS, explanation, metric_label, picture_label
from musegen.render.report import _flatten
from musegen.render.setting_labels import setting_label, setting_texts
from musegen.training.callbacks.rbm_likelihood import RBMLikelihood

EXPERIMENTS = sorted((ROOT / "conf" / "experiment").glob("*.yaml"))
NOT_SETTINGS = ("overrides", "resume")


def resolved(*typed: str) -> dict[str, Any]:
    settings = resolve_config(compose_config([*typed, "run_dir=run"]))
    return {k: v for k, v in settings.items() if k not in NOT_SETTINGS}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_setting_of_the_experiments_is_explained(path: Path) -> None:
    settings = resolved(f"experiment={path.stem}")
    texts = setting_texts(settings)
    assert texts.keys() == _flatten(settings, "run").keys()
    assert [key for key, text in texts.items() if not text] == []
    assert max(map(len, texts.values())) < 300  # a sentence, not a paragraph


def test_lightnings_own_callbacks_are_explained() -> None:
    texts = setting_texts(resolved("callbacks=early_stopping"))
    assert [key for key, text in texts.items() if not text] == []


def test_the_class_explains_its_settings() -> None:
    texts = setting_texts(resolved("model=rbm", "data=mnist_5k"))
    assert texts["model.monitor_every"].startswith("updates between two evaluations of the tutor")
    assert texts["model._target_"].startswith("A binary RBM")
    assert texts["trainer.max_epochs"] == "Stop training once this number of epochs is reached"
    assert setting_label("callbacks.samples.every") == "Callbacks, samples: every"
    assert setting_label("optimizer.lr") == "Optimizer: learning rate"
    assert setting_label("seed") == "Seed"


def test_a_class_that_is_gone_explains_nothing() -> None:
    assert setting_texts({"model": {"_target_": "gone.Model", "hiddenn": 3}}) == {
        "model._target_": "", "model.hiddenn": ""
    }  # fmt: skip


def test_every_score_has_a_label() -> None:
    scores = {s for m in MODELS.values() for s in (*(m.scores or ()), *m.train_scores)}
    for score in {*scores, *RBMLikelihood.scores, "loss", "capacity"}:
        assert score in METRICS, score
        assert explanation(score)
        assert metric_label(score) != score
    assert (metric_label("my_score"), explanation("my_score")) == ("My score", "")
    assert picture_label("dissection/gates").startswith("The gates and the cell")
    assert picture_label("mine") == ""
