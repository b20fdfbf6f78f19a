"""What `run=` and `musegen.load` name: a run, a checkpoint, a shared or a pretrained model."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from musegen.errors import UserError
from musegen.models import Model, load_model
from musegen.sharing.folder import is_shared, read_model
from musegen.sharing.remote import download_artifact, download_repository
from musegen.training.checkpoint_files import find_checkpoint

PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained"
"""The folder in the package with a shared model in each subfolder."""
REMOTE: dict[str, Callable[[str], Path]] = {
    "hf:": download_repository,
    "wandb:": download_artifact,
}


def pretrained() -> list[str]:
    """The names of the pretrained models in this package."""
    if not PRETRAINED.is_dir():
        return []
    return sorted(folder.name for folder in PRETRAINED.iterdir() if is_shared(folder))


def locate(run: str | Path) -> Path:
    """The checkpoint file or the shared model's folder that `run` names.

    - a run folder (its best checkpoint), a checkpoint file, or the folder of a shared model;
    - the name of a pretrained model; a run folder of the same name is preferred;
    - hf:USER/NAME, a repository of the Hugging Face Hub, and wandb:ENTITY/PROJECT/NAME:VERSION, an
      artifact of Weights & Biases. Both are downloaded.

    Raises `UserError` if there is none.
    """
    text = str(run)
    for prefix, download in REMOTE.items():
        if text.startswith(prefix):
            return _in_folder(download(text.removeprefix(prefix)))
    path = Path(run).expanduser()
    if is_shared(path):
        return path
    if text in pretrained() and not (path.is_file() or any(path.glob("checkpoints/*.ckpt"))):
        return PRETRAINED / text
    if not path.exists() and re.fullmatch(r"\w[\w-]*", text):
        names = ", ".join(pretrained()) or "none in this version"
        raise UserError(
            f"run={run}: no such run folder or checkpoint, and no such pretrained model; there are "
            f"these: {names}"
        )
    return find_checkpoint(path)


def load(run: str | Path) -> Model:
    """Load a trained model: of a run folder, a checkpoint, a pretrained name or a Hub repository.

        musegen.load("runs/…")          # a run folder: its best checkpoint
        musegen.load("jsb")             # a pretrained model of the package
        musegen.load("hf:USER/NAME")    # also "wandb:ENTITY/PROJECT/NAME:VERSION"

    The model is on the CPU and in evaluation mode, and needs no data. No code in a file is
    executed. Raises `UserError` if there is no such model, and for files that do not fit.
    """
    return load_located(locate(run))


def load_located(path: Path) -> Model:
    """The model of a checkpoint file or of a shared model's folder."""
    return read_model(path) if path.is_dir() else load_model(path)


def own_folder(run: str | Path) -> Path | None:
    """The folder of the run on this disk; None for pretrained models and for those of a server."""
    path = Path(run).expanduser()
    if not path.exists() or PRETRAINED in locate(run).parents:
        return None
    return path if path.is_dir() else path.parent


def output_folder(run: str | Path, kind: str) -> Path:
    """The folder for what is made from a run: RUN/KIND; KIND/NAME without a folder of its own."""
    own = own_folder(run)
    return Path(kind) / re.sub(r"[^\w.-]+", "-", str(run)) if own is None else own / kind


def _in_folder(folder: Path) -> Path:
    """The shared model, or the best checkpoint, in a downloaded folder."""
    if is_shared(folder):
        return folder
    for name in ("best.ckpt", "model.ckpt", "last.ckpt"):
        if found := sorted(folder.rglob(name)):
            return found[0]
    raise UserError(f"{folder}: has neither a shared model of musegen nor a checkpoint")
