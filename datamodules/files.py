"""Which files lie below a folder: links followed, upper case or lower, names of any bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from musegen.codecs.midi import printable

RESOURCE_FORK = "._"
"""macOS puts a file of this name beside each real one on foreign disks and in archives."""


def files_below(
    root: Path, endings: tuple[str, ...], deep: bool = True
) -> list[tuple[str, Path, bool]]:
    """(name, path, reached through a link) of the files with these endings, sorted by path.

    The name is the path below the root, bytes that are no UTF-8 escaped. Endings are lower-case
    and match any case. Pipes and the like are left out: opening one would wait for its writer.
    With `deep` subfolders are looked into, symlinked ones too; a link to a folder that it lies in
    is not followed, and no folder is reached through more than one link.
    """
    found = []
    for folder, linked in _folders(root) if deep else [(root, False)]:
        for path in folder.iterdir():
            if path.name.startswith(RESOURCE_FORK) or path.suffix.lower() not in endings:
                continue
            if path.is_file():
                name = printable(path.relative_to(root)).replace(os.sep, "/")
                found.append((name, path, linked or path.is_symlink()))
    return sorted(found, key=lambda file: file[1])


def _folders(root: Path) -> Iterator[tuple[Path, bool]]:
    """(folder, reached through a link) of the root and everything below it that can be read."""
    through_links: set[str] = set()
    waiting = [(root, False)]
    while waiting:
        folder, linked = waiting.pop()
        real = os.path.realpath(folder)
        if linked:
            if real in through_links:
                continue
            through_links.add(real)
        try:
            inside = sorted(p for p in folder.iterdir() if p.is_dir())
        except OSError:  # not ours to read
            continue
        yield folder, linked
        for path in inside:
            target = os.path.realpath(path)
            if path.is_symlink() and os.path.commonpath([target, real]) == target:
                continue  # a cycle
            waiting.append((path, linked or path.is_symlink()))
