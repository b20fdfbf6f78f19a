"""Splits by piece, caches, and epochs that are a function of their number."""

from __future__ import annotations

import functools
import operator
from pathlib import Path

import pytest

from datamodules.base import cache_folder, data_root, split_pieces
from musegen.errors import UserError

NAMES = [f"piece{i}.mid" for i in range(20)]


def test_every_piece_is_on_one_side() -> None:
    split = split_pieces(NAMES, 0.1, 0.2, seed=0)
    assert {k: len(v) for k, v in split.items()} == {"test": 4, "val": 2, "train": 14}
    assert sorted(functools.reduce(operator.iadd, split.values(), [])) == list(range(20))


def test_reproducible_whatever_the_order_and_different_by_seed() -> None:
    def held_out(names, seed=0):
        split = split_pieces(names, 0.1, 0.1, seed)
        return {names[i] for i in split["test"]}, {names[i] for i in split["val"]}

    assert held_out(NAMES) == held_out(NAMES[::-1])
    assert held_out(NAMES) != held_out(NAMES, seed=1)


def test_folders_say_where_they_belong() -> None:
    names = ["train/a.mid", "valid/b.mid", "test/c.mid", "train/d.mid"]
    assert split_pieces(names, 0.1, 0.1, 0) == {"train": [0, 3], "val": [1], "test": [2]}


def test_incomplete_folders_are_only_names() -> None:
    names = ["train/a.mid", "test/c.mid", "train/d.mid"]
    assert all(len(v) == 1 for v in split_pieces(names, 0.1, 0.1, 0).values())


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_pieces(n: int) -> None:
    with pytest.raises(UserError, match=f"{n} usable piece.*3 at least"):
        split_pieces(NAMES[:n], 0.1, 0.1, 0)


def test_fractions_out_of_range() -> None:
    with pytest.raises(UserError, match="val_fraction=0"):
        split_pieces(NAMES, 0, 0.1, 0)
    with pytest.raises(UserError, match="smaller data.val_fraction"):
        split_pieces(NAMES, 0.5, 0.5, 0)


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
