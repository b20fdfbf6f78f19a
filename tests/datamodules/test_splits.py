"""Splits by piece: a function of the key of each piece, and recorded with the run."""

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
from datamodules.splits import folder_split, split_pieces, uniform_hash
from musegen.cli import evaluate
from musegen.cli import train as train_module
from musegen.codecs.midi import write_notes
from musegen.errors import UserError

KEYS = [f"key{i}" for i in range(400)]


def splits(keys: list[str], seed: int = 0, fraction: float = 0.1, **more) -> dict[str, str]:
    split = split_pieces(keys, fraction, fraction, seed, **more)
    return {keys[i]: name for name in split for i in split[name]}


def test_every_piece_has_one_split_and_fractions_are_right_on_average() -> None:
    split = split_pieces(KEYS, 0.1, 0.2, seed=0)
    assert sorted(functools.reduce(operator.iadd, split.values(), [])) == list(range(400))
    assert 25 <= len(split["val"]) <= 55
    assert 60 <= len(split["test"]) <= 100


def test_a_split_depends_on_the_seed_and_the_key_only() -> None:
    whole = splits(KEYS)
    assert splits(KEYS[::-1]) == whole
    assert splits(KEYS, seed=1) != whole
    for seed in range(50):
        some = random.Random(seed).sample(KEYS, 100)
        assert splits(some) == {key: whole[key] for key in some}


def test_one_more_piece_moves_no_other_piece() -> None:
    """The rule of earlier versions moved a piece to val or test in 92 of 200 cases."""
    moves = 0
    for seed in range(200):
        before = splits(KEYS[:40], seed)
        after = splits(KEYS[:41], seed)
        order = {"train": 0, "val": 1, "test": 2}
        moves += sum(order[after[key]] > order[before[key]] for key in before)
    assert moves == 0


@given(n=st.integers(3, 30), more=st.integers(1, 30), seed=st.integers(0, 500))
def test_in_small_folders_pieces_move_only_towards_training(n, more, seed) -> None:
    try:
        before, after = splits(KEYS[:n], seed), splits(KEYS[: n + more], seed)
    except UserError as e:
        assert "the train split is empty" in str(e)
        return
    assert set(before.values()) == set(after.values()) == {"train", "val", "test"}
    order = {"train": 0, "val": 1, "test": 2}
    assert all(order[after[key]] <= order[before[key]] for key in before)


def test_folder_names_give_the_split() -> None:
    names = ["train/a.mid", "Valid/b.mid", "test/c.mid", "train/d.mid"]
    declared = [folder_split(name) for name in names]
    assert declared == ["train", "val", "test", "train"]
    split = split_pieces(KEYS[:4], 0.1, 0.1, 0, declared)
    assert split == {"train": [0, 3], "val": [1], "test": [2]}
    assert folder_split("test.mid") is None
    assert folder_split("Bach/train.mid") is None


def test_folder_names_are_ignored_if_one_split_is_missing() -> None:
    for declared in (["train", "test", "train"], ["train", "val", "test", None]):
        keys = KEYS[: len(declared)]
        assert split_pieces(keys, 0.1, 0.1, 0, declared) == split_pieces(keys, 0.1, 0.1, 0)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_too_few_pieces_are_refused(n: int) -> None:
    with pytest.raises(UserError, match=f"{n} usable piece.*at least 3"):
        split_pieces(KEYS[:n], 0.1, 0.1, 0)


def test_a_split_without_training_pieces_is_refused() -> None:
    seed = next(s for s in range(99) if max(uniform_hash(s, key) for key in KEYS[:3]) < 0.9)
    with pytest.raises(UserError, match="with 3 usable pieces the train split is empty: add"):
        split_pieces(KEYS[:3], 0.45, 0.45, seed)


def test_fractions_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="val_fraction=0"):
        MidiFolder(Path("x"), val_fraction=0)
    with pytest.raises(UserError, match=r"smaller data\.val_fraction"):
        split_pieces(KEYS, 0.5, 0.5, 0)


def test_recorded_pieces_keep_their_split_in_any_case() -> None:
    whole = splits(KEYS[:30])
    other = {"train": "test", "val": "train", "test": "train"}
    record: dict[str, dict[str, str]] = {"train": {}, "val": {}, "test": {}}
    for key in KEYS[:10]:
        record[other[whole[key]]][key] = f"{key}.mid"
    declared = [whole[key] for key in KEYS[:30]]
    for more in ({}, {"declared": declared}):
        kept = splits(KEYS[:30], record=record, **more)
        assert all(kept[key] == other[whole[key]] for key in KEYS[:10])
        assert all(kept[key] == whole[key] for key in KEYS[10:30])


def test_a_recorded_training_piece_never_fills_an_empty_split() -> None:
    record = {"train": dict.fromkeys(KEYS[:8], "a"), "val": {"v": "v"}, "test": {"t": "t"}}
    with pytest.raises(UserError, match="with 8 usable pieces the val split is empty"):
        split_pieces(KEYS[:8], 0.1, 0.1, 0, record=record)


def folder(root: Path, n: int, first: int = 0) -> Path:
    root.mkdir(exist_ok=True)
    for i in range(first, first + n):
        write_notes(tune(i), root / f"tune{i}.mid")
    return root


def pieces(data) -> dict[str, str]:
    """The split of each key."""
    return {key: split for split, names in data.pieces_by_split.items() for key in names}


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
        "data: the pieces differ from those of the run: 5 (tune12.mid, tune13.mid, tune14.mid, …)"
    )
    assert "are new; 1 (tune4.mid) is missing; " in line
    assert "kept in the split of the run" in line
    assert "\n" not in line

    # A missing piece stays in the record, because it may be added again.
    again.write_split(tmp_path / "split.json")
    third = kind(folder(root, 1, first=4))
    third.keep_split(tmp_path / "split.json")
    third.setup()
    assert pieces(third) == {**after, **before}
    assert third.split_changes == "" or third.split_changes.count(";") == 0


def test_renamed_files_are_not_reported(tmp_path: Path) -> None:
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


def test_another_data_set_is_not_reported_as_a_change(tmp_path: Path) -> None:
    data = MidiFolder(folder(tmp_path / "midi", 6))
    data.setup()
    data.write_split(tmp_path / "split.json")
    other = MidiFolder(folder(tmp_path / "other", 6, first=10))
    other.keep_split(tmp_path / "split.json")
    other.setup()
    assert other.split_changes == ""


def test_training_and_evaluation_keep_the_split_of_the_run(tmp_path: Path, cli) -> None:
    """The folder grows and the seed is another one, but the old pieces stay in their splits.

    Their metrics are the same, and one line reports the new pieces.
    """
    root, run = folder(tmp_path / "midi", 9), tmp_path / "run"
    arguments = (
        "model=lstm_midi", "data=midi_folder", f"data.root={root}", "model.hidden=4",
        "model.head_width=4", "trainer.max_epochs=1", "sample=null", f"hydra.run.dir={run}",
    )  # fmt: skip
    code, out, err = cli(train_module.main, *arguments)
    assert code == 0, err
    assert "the pieces differ from those of the run" not in out
    before = json.loads((run / "split.json").read_text())
    metrics = json.loads((run / "test.json").read_text())

    folder(root, 3, first=9)
    code, out, err = cli(
        evaluate.main, f"run={run}", "data.split_seed=5", "data.test_fraction=0.01"
    )
    assert code == 0, err
    (line,) = [
        line for line in out.splitlines() if "the pieces differ from those of the run" in line
    ]
    assert line.startswith(
        "data: the pieces differ from those of the run: 3 (tune10.mid, tune11.mid, tune9.mid)"
    )
    after = json.loads((run / "evaluation.json").read_text())
    assert after["nll"] == pytest.approx(metrics["nll"], rel=1e-6)
    assert json.loads((run / "split.json").read_text()) == before

    code, out, err = cli(train_module.main, f"resume={run}", "trainer.max_epochs=2")
    assert code == 0, err
    assert "data: the pieces differ from those of the run: 3 (" in out
    resumed = json.loads((run / "split.json").read_text())
    assert all(before[split].items() <= resumed[split].items() for split in before)
    assert sum(map(len, resumed.values())) == 12


def test_a_missing_record_is_reported(tmp_path: Path) -> None:
    """An older version split the pieces in another way. Folders with names of splits do not need
    the record."""
    data = MidiFolder(folder(tmp_path / "midi", 6))
    data.keep_split(tmp_path / "split.json")
    data.setup()
    assert "split.json does not exist" in data.split_changes
    for i, split in enumerate(("train", "valid", "test")):
        (tmp_path / "folders" / split).mkdir(parents=True)
        write_notes(tune(i), tmp_path / "folders" / split / "a.mid")
    data = MidiFolder(tmp_path / "folders")
    data.keep_split(tmp_path / "split.json")
    data.setup()
    assert data.split_changes == ""


def test_damaged_records_are_refused(tmp_path: Path) -> None:
    data = MidiFolder(folder(tmp_path / "midi", 6))
    data.keep_split(tmp_path / "none.json")
    assert data.record == {}
    for content in ("{", "[]", '{"train": {}}', '{"train": 1, "val": {}, "test": {}}'):
        (tmp_path / "split.json").write_text(content)
        with pytest.raises(UserError, match=r"split\.json: not the record of a split"):
            data.keep_split(tmp_path / "split.json")
    data.write_split(tmp_path / "unwritten.json")  # there is nothing to write before setup
    assert not (tmp_path / "unwritten.json").exists()


def test_both_views_of_a_folder_have_the_same_split(tmp_path: Path) -> None:
    root = folder(tmp_path / "midi", 12)
    messages, rolls, beats = MidiFolder(root), RollFolder(root), RollFolder(root, frames_per_beat=2)
    for data in (messages, rolls, beats):
        data.setup()
    assert pieces(messages) == pieces(rolls) == pieces(beats)
    assert np.array_equal(len(messages.pieces["train"]), len(rolls.rolls["train"]))


def test_folders_of_data_and_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
