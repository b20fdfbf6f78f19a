"""Files that are whole or not there: written beside their name, then moved onto it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from musegen.errors import UserError


@contextmanager
def replacing(
    path: str | Path, mode: str = "w", durable: bool = False, **settings: Any
) -> Iterator[Any]:
    """A file to write; when the block ends well it takes the place of `path`, at once.

    Until then, and where the block fails, what was at `path` stays whole; with `durable` even
    when the power fails. Raises `UserError` where the system refuses (no space left, no right).
    """
    path = Path(path)
    # A name of its own: two processes may write the same file at the same time.
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        try:
            with part.open(mode, **settings) as file:
                yield file
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as e:
        whole = "; the one before it is whole" if path.exists() else ""
        raise UserError(f"{path}: cannot be written ({e.strerror}){whole}") from e


def write_text(path: Path, text: str) -> None:
    """The whole of a text file, UTF-8."""
    with replacing(path, encoding="utf-8") as file:
        file.write(text)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """The whole of a JSON file; what is not a number there, NaN, is null."""
    write_text(path, json.dumps(_numbers(content), indent=2, ensure_ascii=False) + "\n")


def _numbers(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _numbers(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_numbers(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
