"""Zip files of data sets, unpacked to the cache once: completely or not at all."""

from __future__ import annotations

import secrets
import shutil
import zipfile
from pathlib import Path

from datamodules.files import RESOURCE_FORK
from musegen.errors import UserError
from musegen.runtime.progress import track

MAX_UNPACKED = 1 << 30


def unpack(archive: Path, into: Path, endings: tuple[str, ...], needed: str) -> Path:
    """Unpack the members with these endings, in any case, to the folder `into`, and return it.

    Nothing is done if it already has a file or folder with the name `needed`. Raises `UserError`
    for a file that is not a zip file, for members outside the folder, for more than 1 GiB, and if
    there is no member `needed`.
    """
    if any(into.rglob(needed)):
        return into
    part = into.with_name(f"{into.name}-unpacking-{secrets.token_hex(8)}")
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = [m for m in zipped.infolist() if _is_chosen(m.filename, endings)]
            if sum(m.file_size for m in members) > MAX_UNPACKED:
                raise UserError(f"{archive}: unpacks to more than {MAX_UNPACKED >> 20} MiB")
            for m in track(members, f"unpacking {archive.name}", "files"):
                target = (part / m.filename).resolve()
                if not target.is_relative_to(part.resolve()):
                    raise UserError(f"{archive}: member {m.filename} would leave its folder")
                zipped.extract(m, part)
        if not any(part.rglob(needed)):
            raise UserError(f"{archive}: has no {needed}")
        if not any(into.rglob(needed)):  # another process may have unpacked it meanwhile
            shutil.rmtree(into, ignore_errors=True)
            try:
                part.replace(into)
            except OSError:
                if not any(into.rglob(needed)):  # else one was quicker
                    raise
    except UserError:
        raise
    except Exception as e:  # zipfile raises many kinds of exceptions
        raise UserError(f"{archive}: not a readable zip file ({type(e).__name__}: {e})") from e
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return into


def _is_chosen(name: str, endings: tuple[str, ...]) -> bool:
    return name.lower().endswith(endings) and not name.split("/")[-1].startswith(RESOURCE_FORK)
