"""Models on the Hugging Face Hub, and in artifacts of Weights & Biases.

Both need an optional package, and only plain files are read from them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from musegen.errors import UserError

FILES = ["config.json", "model.safetensors"]
"""What is downloaded of a repository."""


def download_repository(name: str) -> Path:
    """The folder in the Hub's cache with the model of USER/NAME, or of USER/NAME@REVISION.

    Raises `UserError` if there is no such repository, or it cannot be reached.
    """
    repository, _, revision = name.partition("@")
    check_repository(repository)
    hub = hub_library()
    try:
        folder = hub.snapshot_download(repository, revision=revision or None, allow_patterns=FILES)
    except Exception as e:
        raise as_user_error(e, f"hf:{name}") from e
    return Path(folder)


def upload_folder(folder: Path, repository: str, private: bool) -> str:
    """Create the repository if needed and upload every file of the folder; returns its address."""
    check_repository(repository)
    hub = hub_library()
    api = hub.HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, folder_path=folder, commit_message="Publish with musegen"
        )
    except Exception as e:
        raise as_user_error(e, f"to={repository}") from e
    return f"{api.endpoint}/{repository}"


def download_artifact(name: str) -> Path:
    """The folder with the files of an artifact ENTITY/PROJECT/NAME:VERSION.

    Raises `UserError` if there is no such artifact, or the server refuses.
    """
    try:
        import wandb
    except ModuleNotFoundError as e:
        raise UserError(f"wandb:{name}: needs wandb: pip install 'musegen[wandb]'") from e
    try:
        return Path(wandb.Api().artifact(name).download())
    except (wandb.Error, ValueError, OSError) as e:
        raise UserError(f"wandb:{name}: {' '.join(str(e).split())}") from e


def check_repository(name: str) -> None:
    """Raise `UserError` unless the name has the form USER/NAME."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError(f"{name}: not a repository of the Hub; write USER/NAME")


def hub_library() -> Any:
    """The package huggingface_hub. Raises `UserError` if it is not installed."""
    try:
        import huggingface_hub
    except ModuleNotFoundError as e:
        raise UserError(
            "the Hugging Face Hub needs huggingface_hub: pip install 'musegen[hub]'"
        ) from e
    return huggingface_hub


def as_user_error(error: Exception, where: str) -> Exception:
    """An error of the Hub or of the network as one line; other errors unchanged."""
    from huggingface_hub.errors import LocalEntryNotFoundError, LocalTokenNotFoundError

    if isinstance(error, LocalTokenNotFoundError):
        return UserError(f"{where}: no token of the Hub; run `hf auth login`, or set HF_TOKEN")
    if isinstance(error, LocalEntryNotFoundError):
        return UserError(f"{where}: the Hub cannot be reached, and its cache has no copy")
    of_network = type(error).__module__.startswith(("httpx", "httpcore", "requests"))
    if isinstance(error, (OSError, ValueError)) or of_network:
        return UserError(f"{where}: {' '.join(str(error).split())}")
    return error
