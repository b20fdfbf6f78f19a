"""MAESTRO v3: performances by composer, from its MIDI zip."""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.base import Availability, cache_folder, data_root, has_file
from datamodules.files import files_below
from datamodules.message_streams import MidiFolder
from datamodules.sources.archives import unpack
from datamodules.sources.fetch import fetch
from datamodules.splits import SPLIT_FOLDERS
from musegen.constraints import check_arguments
from musegen.errors import UserError

MAESTRO_URLS = (
    "https://storage.googleapis.com/magentadata/datasets/maestro/v3.0.0/maestro-v3.0.0-midi.zip",
)
MAESTRO_ZIP, TABLE = "maestro-v3.0.0-midi.zip", "maestro-v3.0.0.csv"
MAESTRO_SHA256 = "70470ee253295c8d2c71e6d9d4a815189e35c89624b76d22fce5a019d5dde12c"


class Maestro(MidiFolder):
    """MAESTRO v3 (Hawthorne et al. 2019): performances of one composer, in MAESTRO's split.

    - composer: a part of the name in the catalogue's column canonical_composer, in any case; null
      takes all composers.
    - root: the zip file, a folder with it, or a folder with the unpacked files. Without it
      MUSEGEN_DATA/maestro is used, or the zip file (56 MB) is downloaded once to the cache.

    The other settings are those of `MidiFolder`. Raises `UserError` for an unknown composer and
    and for files that are not MAESTRO v3.
    """

    licence = "CC BY-NC-SA 4.0"

    @classmethod
    def availability(cls, **settings: Any) -> Availability:
        return Availability(
            "a download of 56 MB, or data.root=DIR", has_file("maestro-v3", "maestro", "maestro")
        )

    @check_arguments
    def __init__(self, composer: str | None = "Mozart", **settings: Any) -> None:
        super().__init__(**settings)
        self.composer = composer
        self.catalogue: dict[str, str] = {}

    def files(self) -> list[tuple[str, Path]]:
        folder = self._folder()
        rows = read_catalogue(folder / TABLE)
        chosen = [r for r in rows if self._is_chosen(r["canonical_composer"])]
        self.catalogue = {r["midi_filename"]: r["split"] for r in chosen}
        if not chosen:
            composers = sorted({r["canonical_composer"] for r in rows})
            raise UserError(f"data.composer={self.composer}: not among {'; '.join(composers)}")
        return [(name, folder / name) for name in sorted(self.catalogue)]

    def split_of(self, name: str) -> str | None:
        return SPLIT_FOLDERS.get(self.catalogue[name])

    def _is_chosen(self, composer: str) -> bool:
        return self.composer is None or self.composer.lower() in composer.lower()

    def _folder(self) -> Path:
        root = data_root(self.root, "maestro")
        if root is not None and root.is_dir():
            for _, table, _ in files_below(root, (".csv",)):
                if table.name == TABLE:
                    return table.parent
        archive = root / MAESTRO_ZIP if root is not None and root.is_dir() else root
        if archive is None or not archive.exists():
            if self.root is not None:
                raise UserError(
                    f"data.root={self.root}: has neither {MAESTRO_ZIP} nor its unpacked files"
                )
            downloads = cache_folder(self.cache_dir, "maestro")
            archive = fetch(MAESTRO_ZIP, MAESTRO_URLS, MAESTRO_SHA256, downloads)
        unpacked = cache_folder(self.cache_dir, "maestro") / "maestro-v3.0.0"
        unpack(archive, unpacked, (".mid", ".midi", ".csv"), needed=TABLE)
        return next(unpacked.rglob(TABLE)).parent


MAX_TABLE = 16 << 20
"""The limit in bytes: sixty times the size of the catalogue."""
COLUMNS = ("canonical_composer", "midi_filename", "split")


def read_catalogue(table: Path) -> list[dict[str, str]]:
    """The rows of MAESTRO's catalogue, with `COLUMNS`.

    Raises `UserError` for another file, and for names of files outside its folder.
    """
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(io.StringIO(file.read(MAX_TABLE))))
        rows = [{column: row[column] for column in COLUMNS} for row in rows]
    except (OSError, UnicodeDecodeError, KeyError, csv.Error) as e:
        raise UserError(f"{table}: not MAESTRO v3's catalogue ({type(e).__name__}: {e})") from e
    for number, row in enumerate(rows, start=2):
        if None in row.values():
            raise UserError(f"{table}: row {number} has too few columns")
        path = PurePosixPath(row["midi_filename"])
        if path.is_absolute() or ".." in path.parts or "\0" in str(path):
            raise UserError(f"{table}: row {number} names a file outside its folder: {str(path)!r}")
    return rows
