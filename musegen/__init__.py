"""Train, evaluate and sample generative sequence models of music and text.

    import musegen
    model = musegen.load("runs/…")       # a run folder or a checkpoint
    pieces = model.generate(n=1)

Names are imported on first use, so that `import musegen` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musegen.errors import PairingError, UserError
    from musegen.models import (
        RBM,
        RNNNADE,
        RNNRBM,
        BiaxialLSTM,
        CharRNN,
        LSTMMidi,
        Model,
        load,
    )
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
    "PairingError": "musegen.errors",
    **dict.fromkeys(("Spec", "Frames", "Rolls", "Tokens", "LabelledTokens", "Messages",
                     "LabelledMessages"), "musegen.specs"),
    **dict.fromkeys(("Model", "RBM", "RNNRBM", "RNNNADE", "BiaxialLSTM", "CharRNN", "LSTMMidi",
                     "load"), "musegen.models"),
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
    "Rolls",
    "Spec",
    "Tokens",
    "UserError",
    "__version__",
    "load",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'musegen' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return list(__all__)
