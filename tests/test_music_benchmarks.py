"""The benchmarks of music: the features and the AUC of the judge, and a folder that is measured."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from conftest import ROOT, make_notes, tune

from musegen.codecs.midi import write_notes
from musegen.errors import UserError

pytest.importorskip("sklearn")


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("judge")


def test_features_by_hand(judge: ModuleType) -> None:
    """C4 and G4 together, then E5 alone, an octave of lengths: square roots of frequencies."""
    notes = make_notes([(0, 0.5, 60, 80), (0, 0.5, 67, 80), (0.5, 1.5, 76, 80)])
    found = judge.features(notes)
    expected = {
        "figure2 (7, 9)": 1, "length -3": (2 / 3) ** 0.5, "length 0": (1 / 3) ** 0.5, "onset -3": 1,
        "pitch 60": (1 / 3) ** 0.5, "pitch 67": (1 / 3) ** 0.5, "pitch 76": (1 / 3) ** 0.5,
        "size 1": 0.5**0.5, "size 2": 0.5**0.5, "pair 7": 1, "class 7": 1,
    }  # fmt: skip
    assert found == pytest.approx(expected)


def test_the_judge_tells_scales_from_tunes_and_not_tunes_from_tunes(judge: ModuleType) -> None:
    def of(pieces: list[np.ndarray]) -> object:
        return judge.side(pieces, 8.0)

    rng = np.random.default_rng(0)
    seeds = [int(s) for s in rng.permutation(60)]
    tunes = [tune(s % 12, 40 + s) for s in seeds]
    scales = [
        make_notes([(0.25 * i, 0.25 * i + 0.25, 48 + (i + s) % 24, 80) for i in range(60)])
        for s in range(20)
    ]
    assert judge.auc(of(scales), of(tunes[:20]))[0] > 0.99
    assert judge.auc(of(tunes[20:40]), of(tunes[40:]))[0] == pytest.approx(0.5, abs=0.2)
    with pytest.raises(UserError, match="two pieces"):
        judge.auc(of(tunes[:1]), of(tunes[1:]))


def test_every_piece_is_chosen_before_a_second_excerpt(judge: ModuleType) -> None:
    pieces = [0] * 50 + [1, 2]
    for seed in range(5):
        chosen = judge.spread(pieces, 4, np.random.default_rng(seed))
        assert sorted(pieces[i] for i in chosen) == [0, 0, 1, 2]


def test_a_folder_is_measured(judge: ModuleType, cli, midi_folder: Path, tmp_path: Path) -> None:
    measures = importlib.import_module("music_measures")
    (tmp_path / "pieces").mkdir()
    for i in range(3):
        write_notes(tune(i + 20), tmp_path / "pieces" / f"{i}.mid")
    arguments = [f"folder={tmp_path}/pieces", "data=midi_folder", f"data.root={midi_folder}"]
    code, out, err = cli(measures.main, *arguments, f"out={tmp_path}/out")
    assert code == 0, err
    assert "3 excerpts of samples, 4 of training pieces, 1 of held-out pieces" in out
    saved = json.loads((tmp_path / "out" / "music.json").read_text())
    assert saved["median"]["headline"] == saved["pieces"]["headline"]
    code, _, err = cli(measures.main, *arguments, "n=3", f"out={tmp_path}/out")
    assert (code, "n: not with folder=DIR" in err) == (1, True)


def test_real_pieces_that_end_early_are_not_told_from_longer_ones(judge: ModuleType) -> None:
    """Short excerpts have fewer figures and pitches, so both are cut to the same length."""
    tunes = [tune(s % 12, 40 + s) for s in range(40)]
    long = judge.side(tunes[:20], 16.0)
    short = judge.side([p[p["end"] <= 3.0] for p in tunes[20:]], 16.0)
    for a, b in zip(long.excerpts, short.excerpts, strict=False):
        first, second = judge.equally_long(a, b)
        assert first["end"].max() <= second["end"].max() + 1e-6
        np.testing.assert_array_equal(second, b)
    assert judge.auc(long, short)[0] == pytest.approx(0.5, abs=0.1)
