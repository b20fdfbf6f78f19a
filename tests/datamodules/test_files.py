"""The files below a folder, and files with the same piece."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path

import mido
import pytest
from conftest import make_notes, tune

from datamodules.files import files_below
from datamodules.message_streams import MidiFolder
from datamodules.midi_files import midi_files, notes_key
from datamodules.names import Names
from datamodules.roll_files import RollFolder
from datamodules.sources.archives import unpack
from musegen.codecs.midi import read_notes, write_notes
from musegen.errors import UserError


def names_in(root: Path) -> list[str]:
    return [name for name, _ in midi_files(root)]


def loaded(root: Path, kind=MidiFolder, **settings) -> tuple[dict[str, list[str]], list[str]]:
    """The names of the pieces of each split, and the warnings."""
    data = kind(root, **settings)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data.setup()
    warned = [str(w.message) for w in caught if "MIDI files" in str(w.message)]
    return {s: sorted(names.values()) for s, names in data.pieces_by_split.items()}, warned


def test_links_to_folders_are_followed_without_cycles(midi_folder: Path) -> None:
    outside = midi_folder.parent / "outside"
    (outside / "deep").mkdir(parents=True)
    write_notes(tune(7), outside / "deep" / "tune7.mid")
    (midi_folder / "link").symlink_to(outside)
    (midi_folder / "more" / "up").symlink_to(midi_folder)
    (midi_folder / "here").symlink_to(".")
    (outside / "deep" / "back").symlink_to(midi_folder)
    (midi_folder / "dangling").symlink_to(outside / "none")
    (midi_folder / "dangling.mid").symlink_to(outside / "none.mid")
    assert names_in(midi_folder) == [
        "link/deep/tune7.mid", "more/tune5.mid", *(f"tune{i}.mid" for i in range(5))
    ]  # fmt: skip
    assert loaded(midi_folder)[1] == []  # no file is reported as a copy of itself


def test_folders_with_links_to_all_others(tmp_path: Path) -> None:
    """Twelve folders with 132 links have too many paths to follow them all."""
    for i in range(12):
        (tmp_path / f"d{i}").mkdir()
        write_notes(tune(i), tmp_path / f"d{i}" / "a.mid")
        for j in range(12):
            if i != j:
                (tmp_path / f"d{i}" / f"to{j}").symlink_to(tmp_path / f"d{j}")
    assert len(midi_files(tmp_path)) == 12


def test_the_folders_of_the_splits_can_be_links(midi_folder: Path) -> None:
    for name, folder in (("train", "a"), ("valid", "b"), ("test", "c")):
        (midi_folder / "all" / folder).mkdir(parents=True)
        (midi_folder / name).symlink_to(midi_folder / "all" / folder)
    for i, folder in enumerate("aaabbc"):
        path = midi_folder / ("more" if i == 5 else ".") / f"tune{i}.mid"
        path.rename(midi_folder / "all" / folder / path.name)
    found, warned = loaded(midi_folder)
    assert {s: len(n) for s, n in found.items()} == {"train": 3, "val": 2, "test": 1}
    assert warned == []


def test_karaoke_and_riff_files_are_found_and_resource_forks_are_not(midi_folder: Path) -> None:
    (midi_folder / "tune0.mid").rename(midi_folder / "tune0.KAR")
    (midi_folder / "tune1.mid").rename(midi_folder / "tune1.rmi")
    (midi_folder / "._tune2.mid").write_bytes(b"\0\5\x16\7")
    (midi_folder / "__MACOSX").mkdir()
    (midi_folder / "__MACOSX" / "._tune2.mid").write_bytes(b"\0\5\x16\7")
    assert names_in(midi_folder)[1:4] == ["tune0.KAR", "tune1.rmi", "tune2.mid"]
    found, warned = loaded(midi_folder)
    assert sum(map(len, found.values())) == 6
    assert warned == []


def test_a_folder_of_resource_forks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "._a.mid").touch()
    with pytest.raises(UserError, match=r"has no \.mid or \.midi file"):
        midi_files(tmp_path)


def test_names_that_are_not_utf_8_are_escaped(
    midi_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    raw = os.fsencode(midi_folder)
    os.rename(raw + b"/tune0.mid", raw + b"/caf\xe9.mid")
    os.rename(raw + b"/more", raw + b"/\xfcber")
    shutil.copy(raw + b"/tune1.mid", raw + b"/\xff.mid")
    with open(raw + b"/broken\xe9.mid", "wb"):
        pass
    for kind in (MidiFolder, RollFolder):
        found, warned = loaded(midi_folder, kind)
        everything = sum(found.values(), [])
        assert "caf\\xe9.mid" in everything
        assert "\\xfcber/tune5.mid" in everything
        assert all(name.isprintable() for name in everything)
        (line,) = warned
        assert "broken\\xe9.mid: not a readable MIDI file (it ends too early)" in line
        print(line.encode().decode())  # there is no surrogate in it
    data = MidiFolder(midi_folder)
    data.setup()
    data.write_split(midi_folder / "split.json")
    assert "caf\\\\xe9.mid" in (midi_folder / "split.json").read_text()
    assert "Traceback" not in capfd.readouterr().err


def test_label_files_in_upper_case_are_found_and_resource_forks_are_not(tmp_path: Path) -> None:
    lines = "\n".join(f"a{i}" for i in range(9))
    (tmp_path / "Greek.TXT").write_text(lines)
    (tmp_path / "Czech.Txt").write_text(lines.replace("a", "b"))
    (tmp_path / "._Greek.TXT").write_bytes(b"\0\5\x16\7\xff")
    (tmp_path / "folder.txt").mkdir()
    with open(os.fsencode(tmp_path) + b"/caf\xe9.txt", "w") as file:
        file.write(lines.replace("a", "c"))
    data = Names(root=tmp_path)
    data.setup()
    assert data.codec.labels == ("Czech", "Greek", "caf\\xe9")


def test_endings_in_archives_match_any_case(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("set/train/A.MID", "set/train/._A.MID", "__MACOSX/set/train/._A.MID"):
            archive.writestr(name, b"x")
    unpack(tmp_path / "a.zip", tmp_path / "set", (".mid",), needed="train")
    files = [p for p in (tmp_path / "set").rglob("*") if p.is_file()]
    assert [p.name for p in files] == ["A.MID"]


def test_a_folder_without_permission_is_left_out(midi_folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can read all folders")
    (midi_folder / "locked").mkdir(mode=0)
    assert len(files_below(midi_folder, (".mid",))) == 6


def key(path: Path) -> str:
    notes = read_notes(path)
    return notes_key(notes["start"], notes["pitch"])


def rewritten(path: Path, target: Path, **how) -> Path:
    """Write the file with another title, tempo, velocity, program and number of ticks per beat."""
    file = mido.MidiFile(path)
    scale = how.get("scale", 1)
    for track in file.tracks:
        for message in track:
            message.time *= scale
            if message.type == "note_on" and message.velocity:
                message.velocity = max(1, message.velocity // how.get("softer", 1))
            if message.type == "set_tempo":
                message.tempo = int(message.tempo * how.get("slower", 1))
        track.insert(0, mido.MetaMessage("track_name", name=how.get("title", "")))
        track.insert(0, mido.Message("program_change", program=19))
        track.insert(0, mido.MetaMessage("copyright", text="none"))
    file.ticks_per_beat *= scale
    file.save(target)
    return target


CHANGES = [
    {"title": "Another title"}, {"slower": 1.37}, {"softer": 2}, {"scale": 3},
    {"title": "All", "slower": 0.9, "softer": 3, "scale": 2},
]  # fmt: skip


@pytest.mark.parametrize("how", CHANGES, ids=str)
@pytest.mark.parametrize("kind", [MidiFolder, RollFolder])
def test_files_with_the_same_notes_are_one_piece(how: dict, kind, midi_folder: Path) -> None:
    rewritten(midi_folder / "tune0.mid", midi_folder / "a copy.mid", **how)
    short = make_notes([(0.0, 0.5, 60, 80), (0.5, 0.75, 62, 80), (0.75, 2.0, 60, 80)])
    write_notes(short, midi_folder / "short.mid")
    rewritten(midi_folder / "short.mid", midi_folder / "short copy.mid", **how)
    found, warned = loaded(midi_folder, kind)
    assert sum(map(len, found.values())) == 7
    assert warned == [
        "2 of 9 MIDI files left out: short.mid: the same notes as short copy.mid; "
        "tune0.mid: the same notes as a copy.mid"
    ]


def test_different_pieces_have_different_keys(tmp_path: Path) -> None:
    notes = tune(3)
    short = notes[:8].copy()
    variants = {"tune": notes, "shorter": notes[:-1], "other": tune(4)}
    variants["transposed"] = notes.copy()
    variants["transposed"]["pitch"] += 1
    variants["short"] = short
    variants["short, another rhythm"] = short.copy()
    variants["short, another rhythm"]["start"][3:] += 0.4
    variants["short, another rhythm"]["end"][3:] += 0.4
    for name, piece in variants.items():
        write_notes(piece, tmp_path / f"{name}.mid")
    keys = {name: key(tmp_path / f"{name}.mid") for name in variants}
    assert len(set(keys.values())) == len(variants), keys


@pytest.mark.parametrize("kind", [MidiFolder, RollFolder])
def test_a_copy_in_training_is_left_out_for_the_one_in_test(kind, tmp_path: Path) -> None:
    for folder, tunes in (("train", (0, 1, 2, 3)), ("valid", (2, 4)), ("test", (3, 5))):
        (tmp_path / folder).mkdir()
        for i in tunes:
            write_notes(tune(i), tmp_path / folder / f"{i}.mid")
            rewritten(tmp_path / folder / f"{i}.mid", tmp_path / folder / f"{i}.mid", title=folder)
    found, warned = loaded(tmp_path, kind)
    assert found == {
        "train": ["train/0.mid", "train/1.mid"],
        "val": ["valid/2.mid", "valid/4.mid"],
        "test": ["test/3.mid", "test/5.mid"],
    }
    assert "train/3.mid: the same notes as test/3.mid" in warned[0]


def test_faults_that_do_not_prevent_reading_are_named_in_one_warning(midi_folder: Path) -> None:
    file = mido.MidiFile(midi_folder / "tune0.mid")
    file.tracks[0].insert(0, mido.MetaMessage("set_tempo", tempo=0))
    file.save(midi_folder / "tune0.mid")
    _, warned = loaded(midi_folder)
    (line,) = warned
    assert line.startswith("1 of 6 MIDI files have a fault: ")
    assert line.endswith("tune0.mid: a tempo of 0 is ignored")
