"""The models, one file each, and how a checkpoint becomes a model again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from musegen.checkpoint_files import CheckpointFiles
from musegen.contracts import UserError
from musegen.models.base import Model
from musegen.models.biaxial_lstm import BiaxialLSTM
from musegen.models.char_rnn import CharRNN
from musegen.models.lstm_midi import LSTMMidi
from musegen.models.rbm import RBM
from musegen.models.rnn_nade import RNNNADE
from musegen.models.rnn_rbm import RNNRBM

MODELS: dict[str, type[Model]] = {
    m.name: m for m in (RBM, RNNRBM, RNNNADE, BiaxialLSTM, CharRNN, LSTMMidi)
}


def load_model(path: str | Path) -> Model:
    """The model of a checkpoint, on the CPU and in evaluation mode; needs no data.

    Nothing in the file is executed: it is read with `weights_only=True`. Raises `UserError` for
    a missing, half-written or foreign file, or one that does not fit this version's models.
    """
    checkpoint = CheckpointFiles().load_checkpoint(path)
    settings: dict[str, Any] = (
        checkpoint.get("hyper_parameters", {}) if isinstance(checkpoint, dict) else {}
    )
    settings = dict(settings)
    kind = settings.pop("name", None)
    if kind not in MODELS:
        known = ", ".join(MODELS)
        raise UserError(f"{path}: a checkpoint of {kind or 'another program'}, not of {known}")
    try:
        model = MODELS[kind](**settings)
        model.load_state_dict(checkpoint["state_dict"])
    except (KeyError, TypeError, ValueError, RuntimeError) as e:
        raise UserError(f"{path}: does not fit this version's {kind} ({_first_line(e)})") from e
    return model.eval()


def _first_line(e: BaseException) -> str:
    return str(e).splitlines()[0] if str(e) else type(e).__name__


__all__ = ["MODELS", "Model", "load_model"]
