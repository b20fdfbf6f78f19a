"""A reader for the file of an offline W&B run; wandb has none."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, HEADER = 1 << 15, 7
FULL, LAST = 1, 4
HANG = 1800.0
"""Seconds to wait for the end of the file: wandb's process still writes for a moment after
`finish`."""


def files(folder: Path) -> list[Path]:
    """The files of the parts of the run in `folder`/wandb, in the order of time."""
    return sorted(folder.glob("wandb/*run-*-*/*.wandb"))


def records(path: Path) -> Iterator[tuple[str, Any]]:
    """(kind, content) of every record in a file.

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
    """The records of a run as plain values; of a resumed run, those of its `part` of `parts`."""

    def __init__(self, folder: Path, part: int = 0, parts: int = 1) -> None:
        deadline = time.monotonic() + HANG
        found: list[tuple[str, Any]] = []
        while not any(kind == "exit" for kind, _ in found):
            assert time.monotonic() < deadline, "the run has not ended"
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
        """(global step, value) of each row of the history that has this name."""
        return [(h["trainer/global_step"], h[name]) for h in self.history if name in h]


def _values(items: Any) -> dict[str, Any]:
    """The values by name; the parts of nested keys are joined with dots."""
    return {
        ".".join(i.nested_key) if i.nested_key else i.key: json.loads(i.value_json) for i in items
    }
