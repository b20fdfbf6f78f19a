"""Zip files are unpacked completely, or refused with one line."""

from __future__ import annotations

import os
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from datamodules.sources import archives
from datamodules.sources.archives import unpack
from musegen.errors import UserError


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_members_with_the_endings_are_unpacked_once(tmp_path: Path) -> None:
    members = {"set/train/a.mid": b"a", "set/readme.txt": b"r", "set/valid/b.mid": b"b"}
    archive, into = zipped(tmp_path / "set.zip", **members), tmp_path / "out"
    assert unpack(archive, into, (".mid",), needed="train") == into
    files = {p.relative_to(into).as_posix(): p.read_bytes() for p in into.rglob("*.*")}
    assert files == {"set/train/a.mid": b"a", "set/valid/b.mid": b"b"}
    archive.unlink()
    assert unpack(archive, into, (".mid",), needed="train") == into
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_an_incomplete_folder_is_replaced(tmp_path: Path) -> None:
    archive, into = zipped(tmp_path / "set.zip", **{"train/a.mid": b"a"}), tmp_path / "out"
    into.mkdir()
    (into / "left.mid").touch()
    unpack(archive, into, (".mid",), needed="train")
    assert [p.name for p in into.rglob("*.mid")] == ["a.mid"]


def test_harmful_archives_are_refused(tmp_path: Path, monkeypatch) -> None:
    into = tmp_path / "deep" / "er" / "out"
    outside = zipped(tmp_path / "climb.zip", **{"../../../outside.mid": b"x"})
    with pytest.raises(UserError, match="would leave its folder"):
        unpack(outside, into, (".mid",), needed="outside.mid")
    bomb = zipped(tmp_path / "bomb.zip", **{"a.mid": b"\0" * 11})
    monkeypatch.setattr(archives, "MAX_UNPACKED", 10)
    with pytest.raises(UserError, match=r"bomb\.zip: unpacks to more than"):
        unpack(bomb, into, (".mid",), needed="a.mid")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["bomb.zip", "climb.zip"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(UserError, match="not a readable zip"):
        unpack(tmp_path / "text.zip", tmp_path / "out", (".mid",), needed="train")
    other = zipped(tmp_path / "other.zip", **{"a.mid": b"a"})
    with pytest.raises(UserError, match=r"other\.zip: has no train"):
        unpack(other, tmp_path / "out", (".mid",), needed="train")
    assert not (tmp_path / "out").exists()


def test_two_unpack_one_archive_at_the_same_time(tmp_path: Path, monkeypatch) -> None:
    """As in two containers with a common disk: both have the process number 1."""
    archive = zipped(tmp_path / "set.zip", **{"train/a.mid": b"a", "train/b.mid": b"b"})
    into, both_unpack = tmp_path / "out", threading.Barrier(2)
    monkeypatch.setattr(os, "getpid", lambda: 1)

    def wait_for_the_other(members: list, *_: str) -> list:
        both_unpack.wait(timeout=1800)
        return members

    monkeypatch.setattr(archives, "track", wait_for_the_other)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(unpack, archive, into, (".mid",), "train") for _ in range(2)]
    assert [job.result() for job in jobs] == [into, into]
    assert sorted(p.name for p in into.rglob("*.mid")) == ["a.mid", "b.mid"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "set.zip"]
