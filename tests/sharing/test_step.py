"""The exported step gives the model's own logits, in ONNX Runtime and as TorchScript."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from musegen.codecs.chars import CharCodec
from musegen.codecs.messages import MessageCodec
from musegen.errors import UserError
from musegen.models import Model
from musegen.models.char_rnn import CharRNN
from musegen.models.lstm_midi import LSTMMidi
from musegen.models.rbm import RBM
from musegen.sharing.step import write_step
from musegen.specs import Frames, LabelledTokens, TokenBatch

CHARS = CharCodec("ab")
NAMES = CharCodec("ab", labels=("Dutch", "Greek"))
MESSAGES = MessageCodec((40, 45), velocity_bins=3, time_bins=4)
ROWS = 3


def char_model(cell: str) -> CharRNN:
    return CharRNN(CHARS.spec, CHARS, cell=cell, hidden=4, layers=2, dropout=0.5)


def midi_model(heads: str, active: int) -> LSTMMidi:
    return LSTMMidi(
        MESSAGES.spec, MESSAGES, hidden=4, heads=heads, active_note_dim=active, embedding=(2, 2, 2)
    )


def zeros(folder: Path) -> dict[str, np.ndarray]:
    """A state of zeros for ROWS rows, as step.json describes it."""
    described = json.loads((folder / "step.json").read_text())["inputs"]
    return {
        name: np.zeros([ROWS if d == "batch" else d for d in x["shape"]], x["type"])
        for name, x in described.items()
    }


def program(folder: Path, format: str):
    """The exported step: named inputs → outputs by name."""
    names = json.loads((folder / "step.json").read_text())["outputs"]
    if format == "torchscript":
        module = torch.jit.load(folder / "step.pt")
        return lambda inputs: dict(
            zip(
                names,
                (t.numpy() for t in module(*map(torch.from_numpy, inputs.values()))),
                strict=True,
            )
        )
    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    session = runtime.InferenceSession(folder / "step.onnx", providers=["CPUExecutionProvider"])
    return lambda inputs: dict(zip(names, session.run(names, inputs), strict=True))


def run(folder: Path, format: str, x_TBX: np.ndarray, **given: np.ndarray) -> list[dict]:
    """The outputs of each step, with the state passed on from step to step."""
    step, inputs, results = program(folder, format), zeros(folder), []
    for t in range(len(x_TBX)):
        inputs["x"] = x_TBX[t]
        inputs.update({name: value[t] for name, value in given.items() if name in inputs})
        results.append(step(inputs))
        inputs.update({n: results[-1][f"{n}_next"] for n in inputs if f"{n}_next" in results[-1]})
    return results


def write(model: Model, folder: Path, format: str) -> None:
    if format == "onnx":
        pytest.importorskip("onnx", reason="needs musegen[onnx]")
    write_step(model, folder, format)


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_step_of_a_char_rnn(cell: str, format: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = char_model(cell).eval()
    write(model, tmp_path, format)
    x_BT = torch.tensor([[0, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 1]])
    x_BL = torch.cat([torch.full((ROWS, 1), CHARS.start_class), x_BT], 1)
    found = run(tmp_path, format, x_BL[:, :-1].T.contiguous().numpy())
    with torch.inference_mode():
        logits_NV, _ = model.logits(TokenBatch(x_BL, torch.ones(ROWS, 4, dtype=torch.bool)))
    expected_BTV = logits_NV.unflatten(0, (ROWS, 4))
    for t in range(4):
        np.testing.assert_allclose(found[t]["logits"], expected_BTV[:, t].numpy(), atol=1e-5)


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
@pytest.mark.parametrize(("heads", "active"), [("chained", 3), ("independent", 0)])
def test_the_step_of_an_lstm_midi(heads: str, active: int, format: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = midi_model(heads, active).eval()
    write(model, tmp_path, format)
    sizes = torch.tensor(model.spec.sizes)
    x_BTF = (torch.rand(ROWS, 5, 3) * sizes).long()
    x_BLF = torch.cat([sizes.expand(ROWS, 1, 3), x_BTF], 1)
    x_LBF = x_BLF.transpose(0, 1).contiguous().numpy()
    found = run(tmp_path, format, x_LBF[:-1], next=x_LBF[1:])
    with torch.inference_mode():
        h_BTD, active_BTQ, _ = model(x_BLF[:, :-1])
    for t in range(5):
        with torch.inference_mode():
            expected = model.heads(h_BTD[:, t], active_BTQ[:, t], x_BLF[:, t + 1])
        for field, logits in zip(("note", "velocity", "time"), expected, strict=True):
            np.testing.assert_allclose(found[t][f"{field}_logits"], logits.numpy(), atol=1e-5)


def test_a_model_of_beats_takes_the_clock(tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = MessageCodec(time_unit="beats")
    model = LSTMMidi(codec.spec, codec, hidden=5, layers=1, heads="independent").eval()
    write(model, tmp_path, "torchscript")
    assert [*json.loads((tmp_path / "step.json").read_text())["inputs"]][1] == "clock"
    x_TBF = np.tile(np.array(model.spec.sizes), (2, ROWS, 1))
    clock_TBC = np.array([[[0, 96]] * ROWS, [[24, 72]] * ROWS])
    found = run(tmp_path, "torchscript", x_TBF, clock=clock_TBC)
    x_BTF, clock_BTC = (torch.from_numpy(a).transpose(0, 1) for a in (x_TBF, clock_TBC))
    with torch.inference_mode():
        h_BTD, active_BTQ, _ = model(x_BTF, clock_BTC=clock_BTC)
        expected = model.heads(h_BTD[:, 1], active_BTQ[:, 1], x_BTF[:, 1])
    np.testing.assert_allclose(found[1]["note_logits"], expected[0].numpy(), atol=1e-5)
    attends = LSTMMidi(codec.spec, codec, hidden=4, attention_heads=2)
    with pytest.raises(UserError, match="model with attention is not exported"):
        write_step(attends, tmp_path / "x", "onnx")


def test_a_labelled_model_takes_its_label(tmp_path: Path) -> None:
    model = CharRNN(LabelledTokens(NAMES.spec.vocab_size, 2), NAMES, hidden=4)
    write(model, tmp_path, "torchscript")
    x_1B = np.full((1, ROWS), NAMES.start_class)
    dutch, greek = (
        run(tmp_path, "torchscript", x_1B, label=np.full((1, ROWS), i))[0]["logits"] for i in (0, 1)
    )
    assert not np.allclose(dutch, greek)
    described = json.loads((tmp_path / "step.json").read_text())
    assert list(described["inputs"]) == ["x", "label", "h", "c"]
    assert described["inputs"]["h"] == {"shape": [1, "batch", 4], "type": "float32"}
    assert described["start"] == {"x": NAMES.start_class}


@pytest.mark.parametrize("format", ["onnx", "torchscript"])
@pytest.mark.parametrize("heads", ["chained", "independent"])
def test_a_model_with_matches_takes_the_match(heads: str, format: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    codec = MessageCodec(longest_match=True)
    model = LSTMMidi(codec.spec, codec, hidden=5, layers=1, heads=heads).eval()
    assert model.match_logits is not None
    for weight in model.match_logits.parameters():
        torch.nn.init.normal_(weight)
    write(model, tmp_path, format)
    sizes, none = model.spec.sizes, [0, *model.spec.sizes]
    described = json.loads((tmp_path / "step.json").read_text())
    assert list(described["inputs"])[:3] == ["x", "next", "match"]
    assert described["start"] == {"x": list(sizes), "match": none}
    x_TBF = np.tile(np.array([sizes, [40, 3, 0], [40, 3, 7]]), (ROWS, 1, 1)).transpose(1, 0, 2)
    match_TBM = np.tile(np.array([none, [4, 40, 3, 7]])[:, None], (1, ROWS, 1))
    found = run(tmp_path, format, x_TBF[:-1], next=x_TBF[1:], match=match_TBM)
    x_BLF, match_BTM = (torch.from_numpy(a).transpose(0, 1) for a in (x_TBF, match_TBM))
    with torch.inference_mode():
        h_BTD, active_BTQ, _ = model(x_BLF[:, :-1], match_BTM=match_BTM)
        for t in range(2):
            expected = model.logits(h_BTD[:, t], active_BTQ[:, t], x_BLF[:, t + 1], match_BTM[:, t])
            for field, logits in zip(("note", "velocity", "time"), expected, strict=True):
                np.testing.assert_allclose(found[t][f"{field}_logits"], logits.numpy(), atol=1e-5)


def test_a_model_without_a_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="rbm has no step function to export; char_rnn and lstm"):
        write_step(RBM(Frames(4), hidden=2), tmp_path / "x", "onnx")
    assert not (tmp_path / "x").exists()
