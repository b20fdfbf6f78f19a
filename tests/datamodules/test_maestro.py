"""MAESTRO from a zip file, a folder or a download."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from conftest import tune
from test_fetch import server  # noqa: F401

from datamodules import maestro
from datamodules.maestro import Maestro
from musegen.codecs.midi import write_notes
from musegen.errors import UserError

ROWS = [
    ("Wolfgang Amadeus Mozart", "train", "2004/a.midi"),
    ("Wolfgang Amadeus Mozart", "validation", "2004/b.midi"),
    ("Wolfgang Amadeus Mozart", "test", "2006/c.midi"),
    ("Franz Liszt", "train", "2006/d.midi"),
    ("Franz Liszt", "train", "2006/e.midi"),
    ("Franz Liszt", "train", "2006/f.midi"),
]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A small zip file with MAESTRO's layout."""
    path = tmp_path / "zip" / maestro.MAESTRO_ZIP
    path.parent.mkdir()
    table = "canonical_composer,canonical_title,split,midi_filename\n"
    with zipfile.ZipFile(path, "w") as zipped:
        for i, (composer, split, name) in enumerate(ROWS):
            table += f"{composer},Sonata {i},{split},{name}\n"
            write_notes(tune(i), tmp_path / "tune.midi")
            zipped.write(tmp_path / "tune.midi", f"maestro-v3.0.0/{name}")
        zipped.writestr("maestro-v3.0.0/maestro-v3.0.0.csv", table)
    return path


def names(data: Maestro) -> dict[str, list[str]]:
    data.setup()
    return {k: [p.name for p in v] for k, v in data.pieces.items()}


CATALOGUE_SPLIT = {"train": ["2004/a.midi"], "val": ["2004/b.midi"], "test": ["2006/c.midi"]}


@pytest.mark.parametrize("given", ["zip", "folder with the zip", "unpacked"])
def test_one_composer_in_the_split_of_the_catalogue(archive: Path, given: str, tmp_path) -> None:
    root = archive
    if given == "folder with the zip":
        root = archive.parent
    elif given == "unpacked":
        root = tmp_path / "unpacked"
        zipfile.ZipFile(archive).extractall(root)
    assert names(Maestro(root=root)) == CATALOGUE_SPLIT


def test_a_composer_without_test_pieces_is_split_by_piece(archive: Path) -> None:
    split = names(Maestro(composer="liszt", root=archive))
    assert {k: len(v) for k, v in split.items()} == {"train": 1, "val": 1, "test": 1}


def test_all_composers_are_read(archive: Path) -> None:
    assert len(names(Maestro(composer=None, root=archive))["train"]) == 4


def test_an_unknown_composer_is_refused(archive: Path) -> None:
    with pytest.raises(UserError, match="composer=Sorabji: not among Franz Liszt; Wolfgang"):
        Maestro(composer="Sorabji", root=archive).setup()


def test_maestro_is_downloaded(archive: Path, server: str, monkeypatch) -> None:  # noqa: F811
    import hashlib

    import test_fetch

    monkeypatch.setattr(test_fetch, "CONTENT", archive.read_bytes())
    sha = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(maestro, "MAESTRO_URLS", (f"{server}/good",))
    monkeypatch.setattr(maestro, "MAESTRO_SHA256", sha)
    assert names(Maestro()) == CATALOGUE_SPLIT


def test_without_file_and_network_there_is_one_error(monkeypatch) -> None:
    monkeypatch.delenv("MUSEGEN_DATA", raising=False)
    monkeypatch.setattr(maestro, "MAESTRO_URLS", ("http://127.0.0.1:9/maestro-v3.0.0-midi.zip",))
    with pytest.raises(UserError, match="maestro-v3.0.0-midi.zip could not be downloaded.*70470ee"):
        Maestro().setup()


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(UserError, match="has neither"):
        Maestro(root=tmp_path / "a").setup()
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(UserError, match="not a readable zip"):
        Maestro(root=tmp_path / "text.zip").setup()
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as zipped:
        zipped.writestr("a.mid", b"")
    with pytest.raises(UserError, match="has no maestro-v3.0.0.csv"):
        Maestro(root=tmp_path / "empty.zip").setup()
