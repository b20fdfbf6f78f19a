"""Files that are complete or absent: written under another name, then renamed."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from musegen.errors import UserError


@contextmanager
def replacing(
    path: str | Path, mode: str = "w", durable: bool = False, **settings: Any
) -> Iterator[Any]:
    """A file to write, which replaces `path` in one step when the block ends without an error.

    Until then, and after an error, `path` keeps its old content; with `durable`, even if the power
    fails. Raises `UserError` if the system refuses (no space left, no permission).
    """
    path = Path(path)
    # Two threads, or two computers with a common disk, may write the same file at the same time.
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}.part")
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
        kept = "; the file keeps its old content" if path.exists() else ""
        raise UserError(f"{path}: cannot be written ({e.strerror}){kept}") from e


def write_text(path: Path, text: str) -> None:
    """Write a complete text file in UTF-8."""
    with replacing(path, encoding="utf-8") as file:
        file.write(text)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a complete JSON file; NaN and infinity become null."""
    write_text(path, json.dumps(_finite(content), indent=2, ensure_ascii=False) + "\n")


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
