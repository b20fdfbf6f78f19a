"""The folder of a shared model: config.json, model.safetensors and README.md. Nothing is unpickled.

config.json has the model's class, its settings, its spec and its codec as JSON, and what the data
set and the test were. The weights are in the file format of safetensors, in half precision if asked
for. What a model has counted instead of trained (`state_dict` values that are no tensors) is JSON
in the same file, as bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from musegen import __version__
from musegen.errors import UserError
from musegen.models import Model, restore_model
from musegen.runtime.atomic import replacing, write_json

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FORMAT = 1
"""Raised when a reader of the version before would misread the files."""
JSON_PREFIX = "json:"
"""Before the names of values that are no tensors."""


def is_shared(folder: Path) -> bool:
    """Whether the folder holds a shared model."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def write_model(
    model: Model, folder: Path, half: bool = False, about: dict[str, Any] | None = None
) -> list[Path]:
    """Write config.json and model.safetensors. Returns their paths.

    - half: keep float32 weights in 16 bits. float64 stays: who chose it needs its digits.
    - about: further entries of config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    settings = dict(model.hparams)
    config = {
        "library_name": "musegen",
        "format": FORMAT,
        "musegen_version": __version__,
        "model_type": settings.pop("name"),
        "import_path": settings.pop("import_path"),
        "spec": settings.pop("spec"),
        "codec": settings.pop("codec"),
        "settings": {k: v for k, v in settings.items() if k != "musegen_version"},
        **(about or {}),
    }
    write_json(folder / CONFIG, config)
    tensors = {name: _tensor(value, half) for name, value in _named(model.state_dict()).items()}
    with replacing(folder / WEIGHTS, "wb") as file:
        file.write(save(tensors, metadata={"format": "pt"}))
    return [folder / CONFIG, folder / WEIGHTS]


def read_config(folder: Path) -> dict[str, Any]:
    """The content of config.json. Raises `UserError` for a damaged or foreign file."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if config["library_name"] != "musegen":
            raise KeyError("library_name")
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise UserError(f"{path}: not the config of a model of musegen ({e})") from e
    if config.get("format") != FORMAT:
        raise UserError(
            f"{path}: format {config.get('format')}, written by musegen "
            f"{config.get('musegen_version')}; this is musegen {__version__}"
        )
    return dict(config)


def read_model(folder: Path) -> Model:
    """The model of the folder, on the CPU and in evaluation mode.

    Raises `UserError` for damaged files and for a class outside musegen that is not imported.
    """
    config = read_config(folder)
    path = folder / WEIGHTS
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as e:
        raise UserError(f"{path}: cannot be read ({e})") from e
    settings = {
        **config["settings"],
        "name": config["model_type"],
        "import_path": config["import_path"],
        "musegen_version": config["musegen_version"],
        "spec": config["spec"],
        "codec": config["codec"],
    }
    return restore_model(settings, _state(tensors, path), path)


def _named(state: dict[str, Any]) -> dict[str, Any]:
    return {k if isinstance(v, Tensor) else f"{JSON_PREFIX}{k}": v for k, v in state.items()}


def _tensor(value: Any, half: bool) -> Tensor:
    if not isinstance(value, Tensor):
        content = json.dumps(value, separators=(",", ":")).encode()
        return torch.frombuffer(bytearray(content), dtype=torch.uint8)
    value = value.detach().cpu()
    return (value.half() if half and value.dtype == torch.float32 else value).clone().contiguous()


def _state(tensors: dict[str, Tensor], path: Path) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if name.startswith(JSON_PREFIX):
            try:
                state[name.removeprefix(JSON_PREFIX)] = json.loads(bytes(tensor.tolist()))
            except ValueError as e:
                raise UserError(f"{path}: {name} is damaged ({e})") from e
        else:
            state[name] = tensor
    return state
