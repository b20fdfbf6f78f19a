"""The models, one file each, and how to load one from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from musegen.errors import UserError
from musegen.models.base import MODELS, Model
from musegen.models.biaxial_lstm import BiaxialLSTM
from musegen.models.char_rnn import CharRNN
from musegen.models.classes import find_foreign_class
from musegen.models.lstm_midi import LSTMMidi
from musegen.models.rbm import RBM
from musegen.models.rnn_nade import RNNNADE
from musegen.models.rnn_rbm import RNNRBM
from musegen.training.checkpoint_files import CheckpointFiles


def load_model(path: str | Path) -> Model:
    """Load the model of a checkpoint, on the CPU and in evaluation mode. It needs no data.

    No code in the file is executed: it is read with `weights_only=True`. Raises `UserError` for a
    missing or truncated file, for a file of another program, and as `restore_model`.
    """
    loaded = CheckpointFiles().load_checkpoint(path)
    checkpoint = loaded if isinstance(loaded, dict) else {}
    settings = dict(checkpoint.get("hyper_parameters", {}))
    return restore_model(settings, checkpoint.get("state_dict", {}), path)


def restore_model(settings: dict[str, Any], state: dict[str, Any], path: str | Path) -> Model:
    """The model with these saved settings and weights, which were read from the file `path`.

    A class outside musegen is imported only if its run's config names it (`find_foreign_class`).
    Raises `UserError` for settings of another program, and for settings or weights that do not fit
    this version's models.
    """
    settings = dict(settings)
    kind, version = settings.pop("name", None), settings.pop("musegen_version", None)
    target = str(settings.pop("import_path", "musegen."))
    foreign = not target.startswith("musegen.")
    if not foreign and kind not in MODELS:
        known = ", ".join(MODELS)
        raise UserError(
            f"{path}: a checkpoint of {kind or 'another program'}; known models: {known}"
        )
    if version is None:
        raise UserError(
            f"{path}: written by musegen 0.1, which this version cannot read; train it again, or "
            "install musegen 0.1"
        )
    model_class = find_foreign_class(target, Path(path)) if foreign else MODELS[kind]
    try:
        model = model_class(**settings)
        model.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise UserError(
            f"{path}: written by musegen {version}; does not fit this version's {kind} ({reason})"
        ) from e
    return model.eval()


__all__ = [
    "MODELS",
    "RBM",
    "RNNNADE",
    "RNNRBM",
    "BiaxialLSTM",
    "CharRNN",
    "LSTMMidi",
    "Model",
    "load_model",
    "restore_model",
]
