"""`model.compile=true` and `trainer.fast=true`: the loss of a model by torch.compile."""

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
    """Replace the method `model.compiles` by the same function, compiled at its first call.

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
    assert model.compiles is not None
    eager = getattr(model, model.compiles)
    compiled: Any = torch.compile(eager, mode="reduce-overhead" if cuda_graphs else None)
    in_training = _replayed(model, compiled) if cuda_graphs else compiled

    @functools.wraps(eager)
    def method(*args: Any) -> Any:
        # The batches of validation and the prompts of samples have many other shapes.
        return (eager if torch.is_inference_mode_enabled() else in_training)(*args)

    setattr(model, model.compiles, method)


def describe_fast(model: Model) -> str:
    """How `trainer.fast=true` treats the loss of this model, for the lines before training."""
    if model.compiles is None:
        return f"nothing is compiled: {model.name} has its Gibbs chains and few operations besides"
    if model.compiles not in vars(model):
        return "the loss is not compiled: the model was not built by this command"
    part = "the loss" if model.compiles == "losses" else "the loss but for the Gibbs chains"
    return f"{part} is compiled; the first updates take minutes"


def _replayed(model: Model, compiled: Any) -> Any:
    """The `compiled` function, whose results do not outlive the update where they must not.

    A CUDA graph writes into the same memory at every replay. The state that lasts from update to
    update is therefore copied out of it.
    """

    def replayed(*args: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        result = compiled(*args)
        state = model.training_state()
        own = {k: v for k, v in state.items() if k != "accumulated"}  # computed outside of graphs
        if own:
            model.load_training_state(state | tree_map_only(Tensor, Tensor.clone, own))
        return result

    return replayed
