"""What is in the wheel besides Python files."""

from __future__ import annotations

import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest
from conftest import ROOT
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

MAX_BYTES = 12e6


def build_wheel(project: Path, folder: Path) -> Path:
    (path,) = WheelBuilder(str(project)).build(directory=str(folder), versions=["standard"])
    return Path(path)


@pytest.fixture(scope="module")
def wheel_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_is_small(wheel_path: Path) -> None:
    assert wheel_path.stat().st_size < MAX_BYTES


def test_a_wheel_from_the_source_distribution_is_the_same(wheel_path: Path, tmp_path: Path) -> None:
    (archive,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(archive) as sources:
        sources.extractall(tmp_path / "sources", filter="data")
    (project,) = (tmp_path / "sources").iterdir()
    with (
        ZipFile(wheel_path) as expected,
        ZipFile(build_wheel(project, tmp_path / "again")) as built,
    ):
        assert {i.filename: i.CRC for i in built.infolist()} == {
            i.filename: i.CRC for i in expected.infolist()
        }


def test_the_wheel_has_the_piano_with_its_licence(wheel_path: Path) -> None:
    with ZipFile(wheel_path) as wheel:
        sizes = {info.filename: info.file_size for info in wheel.infolist()}
        (metadata,) = [n for n in sizes if n.endswith("dist-info/METADATA")]
        assert "License-Expression: MIT AND CC-BY-3.0\n" in wheel.read(metadata).decode()
    folder = "musegen/render/piano"
    for name in ("piano.ogg", "piano.json", "LICENSE"):
        assert sizes[f"{folder}/{name}"] == (ROOT / folder / name).stat().st_size
    licences = {n.partition("dist-info/licenses/")[2] for n in sizes}
    assert {"LICENSE", f"{folder}/LICENSE"} <= licences
    for name in ("musegen/render/templates/piano.js", "musegen/conf/train.yaml"):
        assert name in sizes
    page = (ROOT / "musegen" / "studio" / "static").iterdir()
    assert {p.relative_to(ROOT).as_posix(): p.stat().st_size for p in page}.items() <= sizes.items()
