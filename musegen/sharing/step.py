"""One step of a model as a program for other runtimes: ONNX or TorchScript.

    logits, state = step(what was drawn last, state)

The caller draws from the logits and calls the step again. It starts with a state of zeros.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.codecs.messages import FIELDS
from musegen.errors import UserError
from musegen.models import CharRNN, LSTMMidi, Model
from musegen.models.lstm_midi import ChainedHeads, State
from musegen.runtime.atomic import replacing, write_json

Format = Literal["onnx", "torchscript"]
FILES: dict[Format, str] = {"onnx": "step.onnx", "torchscript": "step.pt"}
DESCRIPTION = "step.json"
BATCH = 2
"""Rows of the example that is traced; the program takes any number of rows."""


class CharStep(nn.Module):
    """The last class x_B, the label if there is one, and the state → logits_BV and the state."""

    def __init__(self, model: CharRNN) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_B: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        labelled = self.model.embed_label is not None
        label_B, parts = (inputs[0], inputs[1:]) if labelled else (None, inputs)
        state: Any = parts if len(parts) > 1 else parts[0]
        h_BTH, after = self.model(x_B[:, None], label_B, state)
        logits_BV = self.model.out(h_BTH[:, 0])
        return logits_BV, *(after if isinstance(after, tuple) else (after,))


class MessageStep(nn.Module):
    """The last message x_BF and the state → the logits of each field and the state.

    Models with labels also take label_B, and models of beats clock_BC, the place of the message in
    its bar and the length of the bar, in ticks. Models with matches take match_BM, the longest
    match after the message. Chained heads also take the next message's fields
    as far as they are drawn, next_BF: the velocity's logits are those after its note, and the
    time's those after its note and velocity.
    """

    def __init__(self, model: LSTMMidi) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BF: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(_message_inputs(self.model), inputs, strict=True))
        clock_BC, match_BM = given.get("clock"), given.get("match")
        h_BTD, active_BTQ, after = self.model(
            x_BF[:, None],
            State(given["h"], given["c"], given["age_BP"]),
            given.get("label"),
            None if clock_BC is None else clock_BC[:, None],
            None if match_BM is None else match_BM[:, None],
        )
        state = h_BTD[:, 0], active_BTQ[:, 0]
        logits = self.model.logits(*state, given.get("next", x_BF), match_BM)
        return *logits, *after[:3]


def _message_inputs(model: LSTMMidi) -> list[str]:
    """The names of the inputs after the last message, in order."""
    optional = {
        # The gain of a match also depends on the fields before.
        "next": isinstance(model.heads, ChainedHeads) or model.spec.matches,
        "label": model.embed_label is not None,
        "clock": model.clock is not None,
        "match": model.spec.matches,
    }
    return [*(name for name, used in optional.items() if used), "h", "c", "age_BP"]


class Step(NamedTuple):
    """A step with an example of its inputs, in the order of its arguments."""

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: list[str]
    start: dict[str, Any]
    """The inputs of the first step that are not a state of zeros."""


def step_of(model: Model) -> Step:
    """The step of a trained model. Raises `UserError` for a model without one."""
    if isinstance(model, CharRNN):
        return _char_step(model)
    if isinstance(model, LSTMMidi):
        return _message_step(model)
    raise UserError(
        f"{model.name} has no step function to export; char_rnn and lstm_midi have one, and "
        "format=safetensors takes every model"
    )


def write_step(model: Model, folder: Path, format: Format) -> list[Path]:
    """Write the program and step.json, which names its inputs and outputs. Returns the paths.

    Raises `UserError` for a model without a step, and for `onnx` without the package.
    """
    step = step_of(copy.deepcopy(model))
    step.module.eval().requires_grad_(False)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILES[format]
    with torch.inference_mode(), warnings.catch_warnings():
        # Both tracers say that there are newer ones, and that the number of rows is a constant of
        # the example; tests/sharing/test_step.py runs the program with other numbers.
        warnings.simplefilter("ignore")
        with replacing(path, "wb") as file:
            if format == "onnx":
                _write_onnx(step, file)
            else:
                _write_torchscript(step, file)
    description = {
        "model": model.name,
        "inputs": {
            name: {"shape": ["batch" if d == BATCH and i == _axis(name) else d
                             for i, d in enumerate(x.shape)], "type": str(x.dtype).split(".")[1]}
            for name, x in step.inputs.items()
        },
        "outputs": step.outputs,
        "start": step.start,
        "codec": model.codec.to_dict(),
    }  # fmt: skip
    write_json(folder / DESCRIPTION, description)
    return [path, folder / DESCRIPTION]


def _write_onnx(step: Step, file: Any) -> None:
    try:
        import onnx  # noqa: F401
    except ModuleNotFoundError as e:
        raise UserError("format=onnx needs onnx: pip install 'musegen[onnx]'") from e
    names = [*step.inputs, *step.outputs]
    torch.onnx.export(
        step.module,
        tuple(step.inputs.values()),
        file,
        input_names=list(step.inputs),
        output_names=step.outputs,
        dynamic_axes={name: {_axis(name): "batch"} for name in names},
        dynamo=False,  # the other exporter needs onnxscript, and unrolls the LSTM
    )


def _write_torchscript(step: Step, file: Any) -> None:
    # Of a module the tracer reads every attribute, and a LightningModule has some that raise.
    traced = torch.jit.trace(lambda *inputs: step.module(*inputs), tuple(step.inputs.values()))
    file.write(traced.save_to_buffer())


def _axis(name: str) -> int:
    """The axis of the rows: recurrent states have the layers before it."""
    return 1 if name.removesuffix("_next") in ("h", "c") else 0


def _char_step(model: CharRNN) -> Step:
    inputs = {"x": torch.full((BATCH,), model.codec.start_class)}
    if model.embed_label is not None:
        inputs["label"] = torch.zeros(BATCH, dtype=torch.int64)
    cells = model.cells
    state = ["h", "c"] if isinstance(cells, nn.LSTM) else ["h"]
    zeros = torch.zeros(cells.num_layers, BATCH, cells.hidden_size, dtype=model.out.weight.dtype)
    inputs |= dict.fromkeys(state, zeros)
    outputs = ["logits", *(f"{name}_next" for name in state)]
    return Step(CharStep(model), inputs, outputs, {"x": model.codec.start_class})


def _message_step(model: LSTMMidi) -> Step:
    if model.attention is not None:
        raise UserError(
            "the step of a model with attention is not exported, since it also needs the messages "
            "before; format=safetensors takes every model"
        )
    before = torch.tensor([model.spec.sizes]).expand(BATCH, -1).clone()
    shape = model.lstm.num_layers, BATCH, model.lstm.hidden_size
    floats = next(model.lstm.parameters()).detach()
    zeros = {
        "next": torch.zeros_like(before),
        "label": torch.zeros(BATCH, dtype=torch.int64),
        "clock": torch.zeros(BATCH, 2, dtype=torch.int64),
        "match": F.pad(before, (1, 0)),
        "h": floats.new_zeros(shape),
        "c": floats.new_zeros(shape),
        "age_BP": floats.new_zeros(BATCH, model.spec.notes),
    }
    inputs = {"x": before, **{name: zeros[name] for name in _message_inputs(model)}}
    parts = ("h", "c", "age_BP")
    outputs = [*(f"{field}_logits" for field in FIELDS), *(f"{name}_next" for name in parts)]
    start = {"x": list(model.spec.sizes)}
    if model.spec.matches:
        start["match"] = [0, *model.spec.sizes]
    return Step(MessageStep(model), inputs, outputs, start)
