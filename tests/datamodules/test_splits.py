"""Splits by piece: a function of each piece's own key, recorded with the run."""

from __future__ import annotations

import functools
import json
import operator
import random
from pathlib import Path

import numpy as np
import pytest
from conftest import tune
from hypothesis import given
from hypothesis import strategies as st

from datamodules.base import cache_folder, data_root
from datamodules.message_streams import MidiFolder
from datamodules.roll_files import RollFolder
from datamodules.splits import drawn, folder_side, split_pieces
from musegen.cli import evaluate
from musegen.cli import train as train_module
from musegen.codecs.midi import write_notes
from musegen.errors import UserError

KEYS = [f"key{i}" for i in range(400)]


def sides(keys: list[str], seed: int = 0, fraction: float = 0.1, **more) -> dict[str, str]:
    split = split_pieces(keys, fraction, fraction, seed, **more)
    return {keys[i]: side for side in split for i in split[side]}


def test_every_piece_is_on_one_side_and_fractions_hold_on_average() -> None:
    split = split_pieces(KEYS, 0.1, 0.2, seed=0)
    assert sorted(functools.reduce(operator.iadd, split.values(), [])) == list(range(400))
    assert 25 <= len(split["val"]) <= 55
    assert 60 <= len(split["test"]) <= 100


def test_a_side_depends_on_the_seed_and_the_own_key_only() -> None:
    whole = sides(KEYS)
    assert sides(KEYS[::-1]) == whole
    assert sides(KEYS, seed=1) != whole
    for seed in range(50):
        some = random.Random(seed).sample(KEYS, 100)
        assert sides(some) == {key: whole[key] for key in some}


def test_one_more_piece_moves_none_of_forty() -> None:
    """The rule before this one moved a piece into val or test in 92 of 200 tries."""
    moves = 0
    for seed in range(200):
        before = sides(KEYS[:40], seed)
        after = sides(KEYS[:41], seed)
        order = {"train": 0, "val": 1, "test": 2}
        moves += sum(order[after[key]] > order[before[key]] for key in before)
    assert moves == 0


@given(n=st.integers(3, 30), more=st.integers(1, 30), seed=st.integers(0, 500))
def test_small_folders_too_give_up_pieces_only_towards_training(n, more, seed) -> None:
    try:
        before, after = sides(KEYS[:n], seed), sides(KEYS[: n + more], seed)
    except UserError as e:
        assert "leave the train split empty" in str(e)
        return
    assert set(before.values()) == set(after.values()) == {"train", "val", "test"}
    order = {"train": 0, "val": 1, "test": 2}
    assert all(order[after[key]] <= order[before[key]] for key in before)


def test_folders_say_where_they_belong() -> None:
    names = ["train/a.mid", "Valid/b.mid", "test/c.mid", "train/d.mid"]
    declared = [folder_side(name) for name in names]
    assert declared == ["train", "val", "test", "train"]
    split = split_pieces(KEYS[:4], 0.1, 0.1, 0, declared)
    assert split == {"train": [0, 3], "val": [1], "test": [2]}
    assert folder_side("test.mid") is None
    assert folder_side("Bach/train.mid") is None


def test_incomplete_folders_are_only_names() -> None:
    for declared in (["train", "test", "train"], ["train", "val", "test", None]):
        keys = KEYS[: len(declared)]
        assert split_pieces(keys, 0.1, 0.1, 0, declared) == split_pieces(keys, 0.1, 0.1, 0)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_pieces(n: int) -> None:
    with pytest.raises(UserError, match=f"{n} usable piece.*3 at least"):
        split_pieces(KEYS[:n], 0.1, 0.1, 0)


def test_nothing_left_for_training() -> None:
    seed = next(s for s in range(99) if max(drawn(s, key) for key in KEYS[:3]) < 0.9)
    with pytest.raises(UserError, match=r"3 usable pieces leave the train split empty: add pieces"):
        split_pieces(KEYS[:3], 0.45, 0.45, seed)


def test_fractions_out_of_range() -> None:
    with pytest.raises(UserError, match="val_fraction=0"):
        split_pieces(KEYS, 0, 0.1, 0)
    with pytest.raises(UserError, match=r"smaller data\.val_fraction"):
        split_pieces(KEYS, 0.5, 0.5, 0)


def test_recorded_pieces_keep_their_side_against_all_else() -> None:
    whole = sides(KEYS[:30])
    other = {"train": "test", "val": "train", "test": "train"}
    record: dict[str, dict[str, str]] = {"train": {}, "val": {}, "test": {}}
    for key in KEYS[:10]:
        record[other[whole[key]]][key] = f"{key}.mid"
    declared = [whole[key] for key in KEYS[:30]]
    for more in ({}, {"declared": declared}):
        kept = sides(KEYS[:30], record=record, **more)
        assert all(kept[key] == other[whole[key]] for key in KEYS[:10])
        assert all(kept[key] == whole[key] for key in KEYS[10:30])


def test_a_training_piece_of_the_record_never_fills_an_empty_split() -> None:
    record = {"train": dict.fromkeys(KEYS[:8], "a"), "val": {"v": "v"}, "test": {"t": "t"}}
    with pytest.raises(UserError, match="8 usable pieces leave the val split empty"):
        split_pieces(KEYS[:8], 0.1, 0.1, 0, record=record)


def folder(root: Path, n: int, first: int = 0) -> Path:
    root.mkdir(exist_ok=True)
    for i in range(first, first + n):
        write_notes(tune(i), root / f"tune{i}.mid")
    return root


def pieces(data) -> dict[str, str]:
    """Side by key."""
    return {key: side for side in data.pieces_by_split for key in data.pieces_by_split[side]}


@pytest.mark.parametrize("kind", [MidiFolder, RollFolder])
def test_a_run_keeps_its_split_when_the_folder_changes(kind, tmp_path: Path) -> None:
    root = folder(tmp_path / "midi", 12)
    data = kind(root)
    data.setup()
    data.write_split(tmp_path / "split.json")
    before = pieces(data)
    assert data.split_changes == ""
    saved = json.loads((tmp_path / "split.json").read_text())
    assert sorted(n for names in saved.values() for n in names.values()) == sorted(
        f"tune{i}.mid" for i in range(12)
    )

    folder(root, 5, first=12)
    (root / "tune3.mid").rename(root / "renamed.mid")
    (root / "tune4.mid").unlink()
    again = kind(root, split_seed=7, val_fraction=0.3)
    again.keep_split(tmp_path / "split.json")
    again.setup()
    after = pieces(again)
    assert len(after) == 16
    assert all(after[key] == before[key] for key in after if key in before)
    line = again.split_changes
    assert line.startswith(
        "data: not the pieces of the run: 5 (tune12.mid, tune13.mid, tune14.mid, …)"
    )
    assert "are new; 1 (tune4.mid) is gone; " in line
    assert "kept on the run's side of the split" in line
    assert "\n" not in line

    # What has gone may come back: it stays on record.
    again.write_split(tmp_path / "split.json")
    third = kind(folder(root, 1, first=4))
    third.keep_split(tmp_path / "split.json")
    third.setup()
    assert pieces(third) == {**after, **before}
    assert third.split_changes == "" or third.split_changes.count(";") == 0


def test_a_run_whose_folder_is_as_it_was_says_nothing(tmp_path: Path) -> None:
    root = folder(tmp_path / "midi", 6)
    data = MidiFolder(root)
    data.setup()
    data.write_split(tmp_path / "split.json")
    for i in range(6):
        (root / f"tune{i}.mid").rename(root / f"other{i}.mid")
    again = MidiFolder(root)
    again.keep_split(tmp_path / "split.json")
    again.setup()
    assert again.split_changes == ""
    assert pieces(again) == pieces(data)


def test_another_data_set_is_not_a_changed_one(tmp_path: Path) -> None:
    data = MidiFolder(folder(tmp_path / "midi", 6))
    data.setup()
    data.write_split(tmp_path / "split.json")
    other = MidiFolder(folder(tmp_path / "other", 6, first=10))
    other.keep_split(tmp_path / "split.json")
    other.setup()
    assert other.split_changes == ""


def test_training_and_evaluation_keep_the_split_of_the_run(tmp_path: Path, cli) -> None:
    """The folder grows, and another seed would split it otherwise: no figure changes but for the
    new pieces, and one line says what is different."""
    root, run = folder(tmp_path / "midi", 9), tmp_path / "run"
    arguments = (
        "model=lstm_midi", "data=midi_folder", f"data.root={root}", "model.hidden=4",
        "model.head_width=4", "trainer.max_epochs=1", "sample=null", f"hydra.run.dir={run}",
    )  # fmt: skip
    code, out, err = cli(train_module.main, *arguments)
    assert code == 0, err
    assert "not the pieces of the run" not in out
    before = json.loads((run / "split.json").read_text())
    figures = json.loads((run / "test.json").read_text())

    folder(root, 3, first=9)
    code, out, err = cli(
        evaluate.main, f"run={run}", "data.split_seed=5", "data.test_fraction=0.01"
    )
    assert code == 0, err
    (line,) = [line for line in out.splitlines() if "not the pieces of the run" in line]
    assert line.startswith("data: not the pieces of the run: 3 (tune10.mid, tune11.mid, tune9.mid)")
    after = json.loads((run / "evaluation.json").read_text())
    assert after["nll"] == pytest.approx(figures["nll"], rel=1e-6)
    assert json.loads((run / "split.json").read_text()) == before

    code, out, err = cli(train_module.main, f"resume={run}", "trainer.max_epochs=2")
    assert code == 0, err
    assert "data: not the pieces of the run: 3 (" in out
    resumed = json.loads((run / "split.json").read_text())
    assert all(before[side].items() <= resumed[side].items() for side in before)
    assert sum(map(len, resumed.values())) == 12


def test_a_run_without_a_record_says_that_its_split_is_unknown(tmp_path: Path) -> None:
    """One of an older version, which split in another way; folders that state their split do not
    depend on it."""
    data = MidiFolder(folder(tmp_path / "midi", 6))
    data.keep_split(tmp_path / "split.json")
    data.setup()
    assert "split.json, where a run notes its split" in data.split_changes
    for i, side in enumerate(("train", "valid", "test")):
        (tmp_path / "stated" / side).mkdir(parents=True)
        write_notes(tune(i), tmp_path / "stated" / side / "a.mid")
    data = MidiFolder(tmp_path / "stated")
    data.keep_split(tmp_path / "split.json")
    data.setup()
    assert data.split_changes == ""


def test_records_that_are_missing_or_damaged(tmp_path: Path) -> None:
    data = MidiFolder(folder(tmp_path / "midi", 6))
    data.keep_split(tmp_path / "none.json")
    assert data.record == {}
    for content in ("{", "[]", '{"train": {}}', '{"train": 1, "val": {}, "test": {}}'):
        (tmp_path / "split.json").write_text(content)
        with pytest.raises(UserError, match=r"split\.json: not the record of a split"):
            data.keep_split(tmp_path / "split.json")
    data.write_split(tmp_path / "unwritten.json")  # before setup there is nothing to write
    assert not (tmp_path / "unwritten.json").exists()


def test_both_views_of_a_folder_have_the_same_split(tmp_path: Path) -> None:
    root = folder(tmp_path / "midi", 12)
    messages, rolls, beats = MidiFolder(root), RollFolder(root), RollFolder(root, frames_per_beat=2)
    for data in (messages, rolls, beats):
        data.setup()
    assert pieces(messages) == pieces(rolls) == pieces(beats)
    assert np.array_equal(len(messages.pieces["train"]), len(rolls.rolls["train"]))


def test_where_data_and_caches_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSEGEN_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    assert data_root(None, "mnist") == tmp_path / "mnist"
    assert data_root(None, "maestro") is None
    with pytest.raises(UserError, match=r"data\.root=.*none: no such folder"):
        data_root(tmp_path / "none", "mnist")
    monkeypatch.setenv("MUSEGEN_CACHE", str(tmp_path / "cache"))
    assert cache_folder(None, "x") == tmp_path / "cache" / "x"
    assert cache_folder(tmp_path / "own", "x") == tmp_path / "own" / "x"
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written.*MUSEGEN_CACHE"):
        cache_folder(tmp_path / "file", "x")
