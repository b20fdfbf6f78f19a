"""`model.compile=true` and `trainer.fast=true`: the loss of a model through torch.compile."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from musegen.errors import UserError

if TYPE_CHECKING:
    from musegen.models.base import Model


def compile_loss(model: Model, setting: str, cuda_graphs: bool = False) -> None:
    """Replace `model.losses` by the same function, compiled at its first call.

    With `cuda_graphs` the kernels of each compiled part are captured on a GPU as a CUDA graph, for
    each shape of the batches. No module is wrapped, so the names of the weights in checkpoints stay
    the same. Raises `UserError`, naming the `setting`, if there is no compiler for the code that
    torch.compile writes for a CPU.
    """
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if not torch.cuda.is_available() and shutil.which(compiler) is None:
        raise UserError(
            f"{setting}=true: no C++ compiler ({compiler}); install one, name yours with "
            f"CXX=PATH, or leave {setting} out"
        )
    losses: Any = torch.compile(model.losses, mode="reduce-overhead" if cuda_graphs else None)
    model.losses = _replayed(model, losses) if cuda_graphs else losses  # type: ignore[method-assign]


def describe_fast(model: Model) -> str:
    """How `trainer.fast=true` treats the loss of this model, for the lines before training."""
    if "losses" in vars(model):
        return "the loss is compiled; the first updates take minutes"
    if model.compiles:
        return "the loss is not compiled: the model was not built by this command"
    return f"the loss is not compiled: torch.compile cannot read the Gibbs chains of {model.name}"


def _replayed(model: Model, losses: Any) -> Any:
    """The compiled `losses`, whose results do not outlive the update where they must not.

    A CUDA graph writes into the same memory at every replay. The state that lasts from update to
    update is therefore copied out of it.
    """

    @functools.wraps(losses)
    def replayed_losses(batch: Any) -> dict[str, Tensor]:
        torch.compiler.cudagraph_mark_step_begin()
        parts: dict[str, Tensor] = losses(batch)
        state = model.training_state()
        own = {k: v for k, v in state.items() if k != "accumulated"}  # computed outside of graphs
        if own:
            model.load_training_state(state | tree_map_only(Tensor, Tensor.clone, own))
        return parts

    return replayed_losses
