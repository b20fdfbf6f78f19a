"""The dissection: steps compared with torch's cells, and known fixed points."""

import json
import math

import matplotlib.image
import numpy as np
import pytest
import torch

from musegen.cli import dissect as dissect_module
from musegen.codecs.chars import CharCodec
from musegen.errors import UserError
from musegen.models.char_rnn import CharRNN
from musegen.models.dissection import Dissected, dissect, fixed_points

COURSE = CharCodec("01", unknown=False)


def net(codec=COURSE, **settings):
    torch.manual_seed(1)
    return CharRNN(codec.spec, codec, **{"hidden": 3, "dtype": "float64", **settings}).eval()


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("layers", [1, 2])
def test_steps_equal_those_of_the_cells(cell, layers):
    model = net(cell=cell, layers=layers)
    dissected = Dissected(model)
    s = torch.zeros(dissected.size, dtype=torch.float64)
    read = [3, 0, 0, 1]
    for symbol in read:
        s, parts = dissected.step(symbol, s)
    h_BTH, state = model(torch.tensor([read]))
    torch.testing.assert_close(dissected.top(s), h_BTH[0, -1].detach())
    torch.testing.assert_close(parts["h"], h_BTH[0, -1].detach())
    if cell == "lstm":
        torch.testing.assert_close(parts["c"], state[1][-1, 0].detach())
        assert set(parts) == {"h", "c", "i", "f", "o", "g"}
    torch.testing.assert_close(dissected.logits(s), model.out(h_BTH[0, -1]).detach())


def test_the_label_is_an_input_at_every_step():
    codec = CharCodec("01", labels=("x", "y"))
    model = net(codec)
    h_BTH, _ = model(torch.tensor([[codec.start_class, 0]]), torch.tensor([1]))
    values = dissect(model, "0", "y")
    np.testing.assert_allclose(values["units"]["h"][-1], h_BTH[0, -1].detach())
    with pytest.raises(UserError, match="label=NAME"):
        dissect(model, "0")


def test_all_fixed_points_of_a_steep_tanh():
    # x = tanh(2x): 0 repels with derivative 2; ±0.9575… attract with derivative 2(1 − x²).
    points = fixed_points(
        lambda s: torch.tanh(2 * s), [torch.tensor([x], dtype=torch.float64) for x in (-1, 0.1, 2)]
    )
    states = sorted(float(p["state"][0]) for p in points)
    assert states == pytest.approx([-0.957504, 0, 0.957504], abs=1e-6)
    for p in points:
        assert p["eigenvalues"][0].real == pytest.approx(2 * (1 - p["state"][0] ** 2))


def test_a_saddle_and_a_spiral():
    a = torch.tensor([[0.5, 0.0], [0.0, 3.0]], dtype=torch.float64)
    (saddle,) = fixed_points(lambda s: a @ s + 1, [torch.ones(2, dtype=torch.float64)])
    np.testing.assert_allclose(saddle["state"], [2, -0.5])
    assert sorted(e.real for e in saddle["eigenvalues"]) == pytest.approx([0.5, 3])
    rotation = torch.tensor([[0.0, -0.9], [0.9, 0.0]], dtype=torch.float64)
    (spiral,) = fixed_points(lambda s: rotation @ s, [torch.ones(2, dtype=torch.float64)])
    assert sorted(e.imag for e in spiral["eigenvalues"]) == pytest.approx([-0.9, 0.9])


def test_a_distant_fixed_point_is_found_once():
    # A forget gate of 1 − 10⁻⁷ has its fixed point at 10⁷, with a rounding error from each start.
    starts = [torch.tensor([x], dtype=torch.float64) for x in (-3.0, 0.1, 7.0)]
    (slow,) = fixed_points(lambda s: (1 - 1e-7) * s + 1, starts)
    assert slow["state"] == pytest.approx([1e7], rel=1e-6)


def test_a_map_without_fixed_points():
    assert fixed_points(lambda s: s + 1, [torch.zeros(1, dtype=torch.float64)]) == []


@pytest.mark.parametrize(("cell", "hidden"), [("lstm", 1), ("rnn", 2), ("gru", 5), ("rnn", 1)])
def test_decision_lines_are_where_logits_are_equal(cell, hidden):
    model = net(cell=cell, hidden=hidden)
    values = dissect(model, "0011")
    assert len(values["path"]) == len(values["read"]) == len(values["probabilities"]) == 5
    assert values["read"] == ["start", "0", "0", "1", "1"]
    for line in values["decision_lines"]:
        a, b = (values["symbols"].index(s) for s in line["symbols"])
        for (x, y), p in zip(values["path"], values["probabilities"], strict=True):
            across = line["normal"][0] * x + line["normal"][1] * y + line["offset"]
            if hidden <= 2:  # otherwise the plane only approximates the path
                assert across == pytest.approx(math.log(p[a] / p[b]), abs=1e-9)


def test_two_components_are_exact_for_states_in_a_plane():
    model = net(hidden=4)
    with torch.no_grad():  # units 3 and 4 are always 0, so the path is in a plane
        for gate in range(4):
            model.cells.weight_ih_l0[4 * gate + 2 : 4 * gate + 4] = 0
            model.cells.weight_hh_l0[4 * gate + 2 : 4 * gate + 4] = 0
            model.cells.bias_ih_l0[4 * gate + 2 : 4 * gate + 4] = 0
            model.cells.bias_hh_l0[4 * gate + 2 : 4 * gate + 4] = 0
    values = dissect(model, "0011")
    a, b = (values["symbols"].index(s) for s in values["decision_lines"][0]["symbols"])
    line = values["decision_lines"][0]
    for (x, y), p in zip(values["path"], values["probabilities"], strict=True):
        across = line["normal"][0] * x + line["normal"][1] * y + line["offset"]
        assert across == pytest.approx(math.log(p[a] / p[b]), abs=1e-9)


def test_pictures_and_values_are_written(tmp_path, cli, monkeypatch):
    monkeypatch.setattr(dissect_module, "load", lambda path: net(hidden=1))
    (tmp_path / "x.ckpt").touch()
    code, _, err = cli(dissect_module.main, f"run={tmp_path / 'x.ckpt'}", "string=0011")
    assert code == 0, err
    folder = tmp_path / "dissection"
    assert sorted(p.name for p in folder.iterdir()) == [
        "dissection.json", "gates.png", "gates_dark.png", "outputs.png", "outputs_dark.png",
        "states.png", "states_dark.png", "units.png", "units_dark.png",
    ]  # fmt: skip
    for name in ("gates", "outputs", "states", "units"):
        light, dark = (
            matplotlib.image.imread(folder / f"{name}{end}.png")[..., :3] for end in ("", "_dark")
        )
        assert light.shape == dark.shape
        assert light[0, 0].tolist() == [1, 1, 1]
        assert np.allclose(dark[0, 0] * 255, [0x1D, 0x20, 0x27])
        assert dark.mean() < 0.4 < light.mean()
    values = json.loads((folder / "dissection.json").read_text())
    assert values["string"] == "0011"  # a string, not the number 11
    for arguments in (["string=2"], ["string="], []):
        code, _, err = cli(dissect_module.main, f"run={tmp_path / 'x.ckpt'}", *arguments)
        assert code == 1
        assert len(err.splitlines()) == 1
