"""Checkpoint files: written completely or not at all, and read without executing their content."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from musegen.errors import UserError
from musegen.runtime.atomic import replacing


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's checkpoint plugin: writes complete files and loads only plain values."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, "wb", durable=True) as file:
            recorder = _ErrorRecorder(file)
            try:
                torch.save(checkpoint, recorder)  # type: ignore[arg-type]
            except RuntimeError as e:
                raise recorder.error or e from e

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The checkpoint's content. Raises `UserError` for a missing, damaged or foreign file."""
        try:
            checkpoint: dict[str, Any] = torch.load(path, map_location, weights_only=True)
        except FileNotFoundError as e:
            raise UserError(f"{path}: no such checkpoint") from e
        except Exception as e:  # torch raises many kinds of error for a damaged file
            raise UserError(
                f"{path}: this file is damaged, or it is not a checkpoint of musegen"
            ) from e
        return checkpoint


def find_checkpoint(run: Path, setting: str = "run") -> Path:
    """The checkpoint that `run` names: the file itself, or the best (else the last) of a folder.

    `setting` is the name of the setting, for messages.
    """
    if run.is_dir():
        for name in ("best.ckpt", "last.ckpt"):
            if (run / "checkpoints" / name).exists():
                return run / "checkpoints" / name
        raise UserError(f"{setting}={run}: no checkpoints/best.ckpt or last.ckpt in this folder")
    if not run.exists():
        raise UserError(f"{setting}={run}: no such run folder or checkpoint")
    return run


class _ErrorRecorder:
    """A file that keeps the system's error; `torch.save` says only that it could not write."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self.file.write(data)
        except OSError as e:
            self.error = e
            raise

    def flush(self) -> None:
        self.file.flush()
