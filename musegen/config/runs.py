"""The config that a run has saved in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from musegen.errors import UserError


def load_run_config(path: Path) -> dict[str, Any]:
    """The config saved in a run folder. Raises `UserError` if it cannot be read."""
    try:
        plain = OmegaConf.to_container(OmegaConf.load(path))
        assert isinstance(plain, dict)
    except Exception as e:
        raise UserError(f"{path}: cannot read the run's config ({type(e).__name__})") from e
    if not plain:
        raise UserError(f"{path}: the file is empty; it should hold the config of a run")
    return {str(k): v for k, v in plain.items()}


def refuse_existing_run(folder: Path) -> None:
    """Raise `UserError` if the folder holds a run, which a new run would overwrite."""
    if (folder / "config.yaml").exists() or list(folder.glob("checkpoints/*.ckpt")):
        raise UserError(
            f"{folder}: this folder holds a run; add resume={folder} to resume it, or choose "
            "another folder for the new run"
        )


def settings_beside(checkpoint: Path) -> dict[str, Any]:
    """The config of the run folder that holds the checkpoint."""
    try:
        return load_run_config(checkpoint.parent.parent / "config.yaml")
    except UserError as e:
        raise UserError(f"{e}; name the data with data=NAME") from e
