"""Files that are complete or absent, whoever else writes them at the same time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from musegen.runtime.atomic import replacing, write_json


def test_two_threads_write_one_file(tmp_path: Path) -> None:
    path, both_are_open = tmp_path / "a.txt", threading.Barrier(2)
    errors: list[BaseException] = []

    def write(text: str) -> None:
        try:
            with replacing(path) as file:
                both_are_open.wait(timeout=600)
                file.write(text)
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=write, args=(letter * 10_000,)) for letter in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert path.read_text() in ("a" * 10_000, "b" * 10_000)
    assert os.listdir(tmp_path) == ["a.txt"]


def test_processes_with_equal_numbers_write_one_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in two containers
    with replacing(tmp_path / "a.json") as file:
        write_json(tmp_path / "a.json", {"n": 1})
        file.write("{}")
    assert (tmp_path / "a.json").read_text() == "{}"
    assert os.listdir(tmp_path) == ["a.json"]
