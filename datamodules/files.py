"""The files below a folder: links are followed, and names may have any case and any bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from musegen.codecs.midi import printable

RESOURCE_FORK = "._"
"""The prefix of files that macOS adds for each real file on other disks and in archives."""


def files_below(
    root: Path, endings: tuple[str, ...], deep: bool = True
) -> list[tuple[str, Path, bool]]:
    """(name, path, whether it was reached through a link) of the files with these endings.

    They are sorted by path. The name is the path below the root, with bytes that are not UTF-8
    escaped. Endings are given in lower case and match any case. Only regular files are listed:
    opening a pipe would block. With `deep` subfolders are searched too, also through links. A link
    to a folder that contains it is not followed, and a folder is reached through one link only.
    """
    found = []
    for folder, linked in _folders(root) if deep else [(root, False)]:
        for entry in _entries(folder):
            path = folder / entry.name
            if path.name.startswith(RESOURCE_FORK) or path.suffix.lower() not in endings:
                continue
            # An entry knows without asking the disk whether it is a file or a link.
            if entry.is_file(follow_symlinks=False) or path.is_file():
                name = printable(path.relative_to(root)).replace(os.sep, "/")
                found.append((name, path, linked or entry.is_symlink()))
    return sorted(found, key=lambda file: file[1])


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _folders(root: Path) -> Iterator[tuple[Path, bool]]:
    """(folder, whether it was reached through a link) for the root and all folders below it.

    Folders that cannot be read are left out.
    """
    through_links: set[str] = set()
    stack = [(root, False)]
    while stack:
        folder, linked = stack.pop()
        real = os.path.realpath(folder)
        if linked:
            if real in through_links:
                continue
            through_links.add(real)
        try:
            subfolders = sorted(
                folder / entry.name
                for entry in _entries(folder)
                if not entry.is_file(follow_symlinks=False) and (folder / entry.name).is_dir()
            )
        except OSError:  # no permission to read it
            continue
        yield folder, linked
        for path in subfolders:
            target = os.path.realpath(path)
            if path.is_symlink() and os.path.commonpath([target, real]) == target:
                continue  # a cycle
            stack.append((path, linked or path.is_symlink()))
