"""Train, evaluate and sample generative sequence models of music and text.

    import musegen
    model = musegen.load("runs/…")       # a run folder, a pretrained name, hf:USER/NAME
    piece = model.generate(n=1)[0]       # plays and draws itself in Jupyter
    piece.save("tune.mid")
    run = musegen.train("lstm_midi", "mozart", max_epochs=5)

Names are imported on first use, so that `import musegen` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musegen.api import Run, evaluate_rolls, train
    from musegen.energy.estimates import ais, raise_estimate
    from musegen.errors import PairingError, UserError
    from musegen.models import (
        RBM,
        RNNNADE,
        RNNRBM,
        BiaxialLSTM,
        CharRNN,
        LSTMMidi,
        Model,
    )
    from musegen.render.shown import Piece
    from musegen.sharing.locate import load
    from musegen.specs import (
        Frames,
        LabelledMessages,
        LabelledTokens,
        Messages,
        Rolls,
        Spec,
        Tokens,
    )

__version__ = "0.2.0"

_MODULE_OF = {
    "UserError": "musegen.errors",
    "Piece": "musegen.render.shown",
    "load": "musegen.sharing.locate",
    **dict.fromkeys(("Run", "evaluate_rolls", "train"), "musegen.api"),
    **dict.fromkeys(("ais", "raise_estimate"), "musegen.energy.estimates"),
    "PairingError": "musegen.errors",
    **dict.fromkeys(("Spec", "Frames", "Rolls", "Tokens", "LabelledTokens", "Messages",
                     "LabelledMessages"), "musegen.specs"),
    **dict.fromkeys(("Model", "RBM", "RNNRBM", "RNNNADE", "BiaxialLSTM", "CharRNN", "LSTMMidi"),
                    "musegen.models"),
}  # fmt: skip
"""The module that each public name is defined in."""

__all__ = [
    "RBM",
    "RNNNADE",
    "RNNRBM",
    "BiaxialLSTM",
    "CharRNN",
    "Frames",
    "LSTMMidi",
    "LabelledMessages",
    "LabelledTokens",
    "Messages",
    "Model",
    "PairingError",
    "Piece",
    "Rolls",
    "Run",
    "Spec",
    "Tokens",
    "UserError",
    "__version__",
    "ais",
    "evaluate_rolls",
    "load",
    "raise_estimate",
    "train",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'musegen' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
