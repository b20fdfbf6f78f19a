"""What was read is found again, and a changed file is noticed."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_notes, tune

from datamodules import midi_cache, midi_files
from datamodules.message_streams import MidiFolder
from datamodules.midi_cache import AT_REST, Hashes, Packs, hashed
from datamodules.midi_files import midi_files as found_files
from datamodules.roll_files import RollFolder
from musegen.codecs import midi_compiled
from musegen.codecs.messages import notes_to_messages
from musegen.codecs.midi import read_notes, write_notes
from musegen.errors import UserError


def ready(folder: Path, **settings: Any) -> MidiFolder:
    data = MidiFolder(folder, **settings)
    data.setup()
    return data


def streams(data: MidiFolder) -> dict[str, np.ndarray]:
    return {p.name: p.stream for pieces in data.pieces.values() for p in pieces}


def rest(folder: Path) -> None:
    """Let the files have been at rest for a minute."""
    then = time.time() - 60
    for path in folder.rglob("*.mid"):
        os.utime(path, (then, then))


@pytest.fixture
def hashings(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often each file is hashed, in this process."""
    counts: Counter = Counter()

    def counting(path: Path, limit: int) -> Any:
        counts[path.name] += 1
        return hashed(path, limit)

    monkeypatch.setattr(midi_files, "hashed", counting)
    monkeypatch.setattr(midi_files, "in_turn", lambda work, items, what, warm_up: map(work, items))
    return counts


@pytest.fixture
def any_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are at rest at once: the time of the change of a file cannot be set back."""
    monkeypatch.setattr(midi_cache, "AT_REST", 0)


def test_unchanged_files_are_neither_read_nor_hashed_again(
    midi_folder: Path, hashings: Counter, any_time: None
) -> None:
    first = ready(midi_folder)
    assert set(hashings.values()) == {1}
    hashings.clear()
    second = ready(midi_folder)
    assert not hashings
    for name, stream in streams(first).items():
        np.testing.assert_array_equal(stream, streams(second)[name])
        np.testing.assert_array_equal(stream, notes_to_messages(read_notes(midi_folder / name)))


def test_a_file_that_changed_just_now_is_hashed_again(midi_folder: Path, hashings: Counter) -> None:
    """It might change again without another time."""
    ready(midi_folder)
    hashings.clear()
    ready(midi_folder)
    assert sum(hashings.values()) == 6
    assert AT_REST >= 2 * 10**9


@pytest.mark.parametrize("same_time", [False, True])
def test_a_changed_file_is_read_again(
    midi_folder: Path, hashings: Counter, any_time: None, same_time: bool
) -> None:
    """Also if its size and the time of its content are those of before."""
    path = midi_folder / "tune0.mid"
    ready(midi_folder)
    before, status = path.read_bytes(), path.stat()
    changed = bytearray(before)
    changed[changed.index(0x90) + 1] += 1  # the pitch of the first note
    path.write_bytes(changed)
    if same_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert path.stat().st_mtime_ns == status.st_mtime_ns
    hashings.clear()
    data = ready(midi_folder)
    assert hashings == {"tune0.mid": 1}
    np.testing.assert_array_equal(streams(data)["tune0.mid"], notes_to_messages(read_notes(path)))


def test_a_file_replaced_by_an_older_one_is_read_again(
    midi_folder: Path, hashings: Counter, any_time: None
) -> None:
    ready(midi_folder)
    write_notes(tune(30), midi_folder / "new")
    os.utime(midi_folder / "new", (1_000_000, 1_000_000))
    (midi_folder / "new").replace(midi_folder / "tune1.mid")
    expected = notes_to_messages(read_notes(midi_folder / "tune1.mid"))
    np.testing.assert_array_equal(streams(ready(midi_folder))["tune1.mid"], expected)


def test_a_renamed_or_moved_file_is_hashed_and_not_read(
    midi_folder: Path, hashings: Counter, any_time: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = ready(midi_folder)
    (midi_folder / "tune0.mid").rename(midi_folder / "other.mid")
    midi_folder.rename(midi_folder.with_name("moved"))
    monkeypatch.setattr(type(before.codec), "read", None)  # reading would fail
    after = streams(ready(midi_folder.with_name("moved")))
    np.testing.assert_array_equal(after["other.mid"], streams(before)["tune0.mid"])


def test_streams_are_parts_of_a_mapped_file(midi_folder: Path) -> None:
    stream = next(iter(streams(ready(midi_folder)).values()))
    base = stream
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)
    assert not stream.flags.writeable


def test_damaged_packs_and_hashes_are_made_again(midi_folder: Path, any_time: None) -> None:
    cache = midi_folder.parent / "cache"
    mapped = streams(ready(midi_folder, cache_dir=cache))
    expected = {name: stream.copy() for name, stream in mapped.items()}
    for damage in ("*.npy", "*-v*.json", "hashes-*.json"):
        for file in (cache / "messages").glob(damage):
            file.write_bytes(file.read_bytes()[:60])
        again = streams(ready(midi_folder, cache_dir=cache))
        assert again.keys() == expected.keys()
        for name in expected:
            np.testing.assert_array_equal(again[name], expected[name])
        assert len(list((cache / "messages").glob("*.npy"))) == 1  # the damaged one is removed
    for pack in (cache / "messages").glob("*.npy"):
        pack.unlink()
    assert streams(ready(midi_folder, cache_dir=cache)).keys() == expected.keys()


def test_a_pack_is_one_array(tmp_path: Path) -> None:
    packs = Packs(tmp_path, "-v0")
    parts = {c: np.arange(n, dtype=np.int32) for c, n in (("a", 3), ("b", 100_000), ("c", 1))}
    with packs.writing() as writer:
        for digest, array in parts.items():
            writer.add(digest, array, key=f"key {digest}")
        writer.add("a", np.zeros(9, np.int32), key="known already")
    (file,) = tmp_path.glob("*.npy")
    np.testing.assert_array_equal(np.load(file), np.concatenate(list(parts.values())))
    for found in (packs, Packs(tmp_path, "-v0")):
        for digest, array in parts.items():
            assert digest in found
            assert found.key(digest) == f"key {digest}"
            np.testing.assert_array_equal(found.array(digest), array)
    assert "a" not in Packs(tmp_path, "-v0-beats")


def test_a_pack_without_contents_or_after_an_error_is_not_kept(tmp_path: Path) -> None:
    packs = Packs(tmp_path, "-v0")
    with packs.writing():
        pass
    with suppress(ZeroDivisionError), packs.writing() as writer:
        writer.add("a", np.zeros(3), "key")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_hashes_are_those_of_the_present_files(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.mid").write_bytes(b"x")
    paths = sorted(tmp_path.glob("*.mid"))
    hashes = Hashes(tmp_path, paths)
    stamp, _, digest = hashed(paths[0], 9)
    hashes.add(paths[0], stamp, time.time_ns() + 10 * AT_REST, digest)
    hashes.write()
    assert Hashes(tmp_path, paths).known(paths[0]) == digest
    assert Hashes(tmp_path, paths).known(tmp_path / "none.mid") is None


def test_a_complete_cache_need_not_be_writable(
    midi_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = streams(ready(midi_folder))

    def refused(*_: object, **__: object) -> None:
        raise UserError("no space left")

    monkeypatch.setattr(midi_cache, "replacing", refused)
    rest(midi_folder)  # their hashes are computed again
    assert streams(ready(midi_folder)).keys() == expected.keys()


def test_many_files_are_read_by_the_compiled_loops(
    midi_folder: Path, monkeypatch: pytest.MonkeyPatch, hashings: Counter
) -> None:
    """And few are not: compiling takes longer."""
    monkeypatch.setattr(midi_compiled, "_loops", None)
    few = streams(ready(midi_folder))
    assert not midi_compiled.is_prepared()
    monkeypatch.setattr(midi_files, "COMPILED_FROM", 1)
    many = streams(ready(midi_folder, cache_dir=midi_folder.parent / "other"))
    assert midi_compiled.is_prepared()
    for name in few:
        np.testing.assert_array_equal(many[name], few[name])


def test_rolls_are_the_same_with_compiled_loops(
    midi_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(midi_compiled, "_loops", None)
    few = RollFolder(midi_folder)
    few.setup()
    monkeypatch.setattr(midi_files, "COMPILED_FROM", 1)
    many = RollFolder(midi_folder, cache_dir=midi_folder.parent / "other")
    many.setup()
    for split, rolls in few.rolls.items():
        for a, b in zip(rolls, many.rolls[split], strict=True):
            np.testing.assert_array_equal(a, b)


def test_no_file_is_a_note_less_pack(tmp_path: Path) -> None:
    """Files without notes are left out, and read again at the next start."""
    for i in range(4):
        write_notes(tune(i), tmp_path / f"{i}.mid")
    write_notes(make_notes([]), tmp_path / "silent.mid")
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"silent\.mid: no notes"):
            ready(tmp_path)
    assert len(found_files(tmp_path)) == 5
