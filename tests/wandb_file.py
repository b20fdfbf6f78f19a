"""What an offline W&B run wrote. wandb ships no reader of its own files."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 1 << 15, 7
FULL, LAST = 1, 4
PATIENCE = 60.0
"""Seconds: wandb's own process goes on writing for a moment after `finish`."""


def files(folder: Path) -> list[Path]:
    """What the parts of the one run below `folder`/wandb wrote, in the order of time."""
    return sorted(folder.glob("wandb/*run-*-*/*.wandb"))


def records(path: Path) -> Iterator[tuple[str, Any]]:
    """(kind, content) of every record of a file.

    The format is LevelDB's log after a header of 7 bytes: blocks of 32 KiB, in them chunks of
    (checksum 4, length 2, kind 1, bytes), a record being one full chunk or several up to a last.
    """
    content, at, record = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(content):
        left = BLOCK - at % BLOCK
        if left < HEADER:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        record += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (FULL, LAST):
            parsed = Record.FromString(record)
            record = b""
            name = parsed.WhichOneof("record_type")
            yield name, getattr(parsed, name)


class OfflineRun:
    """A run that has ended, or what one that was gone on with wrote as its `part` of `parts`: the
    records that the tests ask for, as plain values."""

    def __init__(self, folder: Path, part: int = 0, parts: int = 1) -> None:
        deadline = time.monotonic() + PATIENCE
        found: list[tuple[str, Any]] = []
        while not any(kind == "exit" for kind, _ in found):
            assert time.monotonic() < deadline, "the run never ended"
            time.sleep(0.1)
            paths = files(folder)
            assert len(paths) == parts
            found = list(records(paths[part]))

        def every(kind: str) -> list[Any]:
            return [content for name, content in found if name == kind]

        self.run = every("run")[0]
        self.environment = every("environment")[0]
        self.artifacts = every("artifact")
        self.exit_codes = [e.exit_code for e in every("exit")]
        self.config = _values([u for c in [self.run.config, *every("config")] for u in c.update])
        self.history = [_values(h.item) for h in every("history")]

    def column(self, name: str) -> list[tuple[int, Any]]:
        """(global step, value) of each row of the history that has it."""
        return [(h["trainer/global_step"], h[name]) for h in self.history if name in h]


def _values(items: Any) -> dict[str, Any]:
    """Nested keys joined with dots."""
    return {
        ".".join(i.nested_key) if i.nested_key else i.key: json.loads(i.value_json) for i in items
    }
