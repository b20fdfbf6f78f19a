"""From a run to the folder of a shared model, with its card."""

from __future__ import annotations

import shutil
from pathlib import Path

from musegen.config.runs import load_run_config
from musegen.errors import UserError
from musegen.models import load_model
from musegen.sharing.card import about_run, write_card
from musegen.sharing.folder import write_model
from musegen.training.checkpoint_files import find_checkpoint

SPLIT = "split.json"


def write_shared(
    run: Path, folder: Path, name: str, half: bool = False, samples: int = 2, audio: bool = False
) -> list[Path]:
    """Write the model of a run, its card and its first samples into a folder; returns the paths.

    - name: what `musegen.load` is given to load it.
    - half: keep float32 weights in 16 bits.
    - samples, audio: how many samples to copy, and whether with their sound.

    Raises `UserError` for what is not the checkpoint of a run folder, and for a folder that holds
    other files.
    """
    checkpoint = find_checkpoint(run)
    run_dir = checkpoint.parent.parent
    if not (run_dir / "config.yaml").is_file():
        raise UserError(f"run={run}: not in a run folder with a config.yaml, which names the data")
    model = load_model(checkpoint)
    paths = write_model(model, folder, half, about_run(run_dir))
    paths += write_card(model, run_dir, folder, name, samples, audio)
    data = load_run_config(run_dir / "config.yaml")["data"]
    # The names of the user's own files stay private.
    if (run_dir / SPLIT).is_file() and not data.get("root"):
        paths.append(Path(shutil.copyfile(run_dir / SPLIT, folder / SPLIT)))
    return paths
