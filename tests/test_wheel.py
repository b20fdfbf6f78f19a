"""What is in the wheel besides Python files."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

from conftest import ROOT
from hatchling.builders.wheel import WheelBuilder


def test_the_wheel_has_the_piano_with_its_licence(tmp_path: Path) -> None:
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with ZipFile(path) as wheel:
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
