"""`model.compile=true`: the loss of a model through torch.compile."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import torch

from musegen.errors import UserError

if TYPE_CHECKING:
    from musegen.models.base import Model


def compile_loss(model: Model) -> None:
    """Replace `model.losses` by the same function, compiled at its first call.

    No module is wrapped, so the names of the weights in checkpoints stay the same. Raises
    `UserError` if there is no compiler for the code that torch.compile writes for a CPU.
    """
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if not torch.cuda.is_available() and shutil.which(compiler) is None:
        raise UserError(
            f"model.compile=true: no C++ compiler ({compiler}); install one, name yours with "
            "CXX=PATH, or leave model.compile out"
        )
    model.losses = torch.compile(model.losses)  # type: ignore[method-assign]
