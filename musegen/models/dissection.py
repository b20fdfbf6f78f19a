"""A look inside a `char_rnn` while it reads one string.

The numbers behind the pictures of `musegen.render.dissection`: every hidden
unit over time, the state space with the classifier's decision lines, the output probabilities,
an LSTM's gates, and the fixed points of the maps state → cell(x, state) for each symbol x of the
string, with the eigenvalues of the Jacobian there. A 2-unit net counts by a fixed point of each
map on its side of the decision line with reciprocal eigenvalues (Rodriguez, Wiles & Elman 1999).
All of it is the net's: an n-gram's share of p (`model.ngram_weight`) is left out.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from musegen.errors import UserError
from musegen.models.char_rnn import CharRNN

MOST = 4
"""Symbols whose decision lines and fixed points are looked for: 6 lines, 4 maps."""
STARTS, NEWTON_STEPS = 60, 50
CONVERGED, SAME = 1e-9, 1e-5
"""Residual of a fixed point, and the distance under which two are the same; both are relative for
states beyond 1, such as a cell that settles only after millions of steps."""


class Dissected:
    """A `char_rnn` in double precision, taken apart into one step of its cells.

    The state s is every layer's h, and behind them every layer's c for an LSTM.
    """

    def __init__(self, model: CharRNN, label: str | None = None) -> None:
        if model.codec.labels is not None and label is None:
            known = ", ".join(model.codec.labels[:5])
            raise UserError(f"this model writes for a label: add label=NAME, e.g. {known}")
        self.model = copy.deepcopy(model).double().eval()
        self.codec = model.codec
        self.layers, self.hidden = self.model.cells.num_layers, self.model.cells.hidden_size
        self.kind = self.model.cells.mode.split("_")[0].lower()
        self.size = self.layers * self.hidden * (2 if self.kind == "lstm" else 1)
        read = self.model.embed.weight.detach()
        if label is not None:
            class_ = self.codec.label_class(label)
            assert self.model.embed_label is not None
            read = read + self.model.embed_label.weight[class_].detach()
        self.read_VD = read

    def step(self, symbol: int, s: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The next state, and the top layer's parts: h, and for an LSTM c, i, f, o and g."""
        n = self.layers * self.hidden
        h_old = s[:n].split(self.hidden)
        c_old = s[n:].split(self.hidden) if self.kind == "lstm" else ()
        x = self.read_VD[symbol]
        h_new, c_new, parts = [], [], {}
        for k in range(self.layers):
            w_x, w_h, b_x, b_h = (w.detach() for w in self.model.cells.all_weights[k])
            from_x, from_h = w_x @ x + b_x, w_h @ h_old[k] + b_h
            if self.kind == "rnn":
                h = torch.tanh(from_x + from_h)
                parts = {"h": h}
            elif self.kind == "gru":
                (r_x, z_x, n_x), (r_h, z_h, n_h) = from_x.chunk(3), from_h.chunk(3)
                r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
                h = (1 - z) * torch.tanh(n_x + r * n_h) + z * h_old[k]
                parts = {"h": h}
            else:
                i, f, g, o = (from_x + from_h).chunk(4)
                i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
                c = f * c_old[k] + i * g
                h = o * torch.tanh(c)
                c_new.append(c)
                parts = {"h": h, "c": c, "i": i, "f": f, "o": o, "g": g}
            h_new.append(h)
            x = h
        return torch.cat([*h_new, *c_new]), parts

    def map(self, symbol: int) -> Callable[[Tensor], Tensor]:
        """The state's map s → cell(symbol, s)."""
        return lambda s: self.step(symbol, s)[0]

    def logits(self, s: Tensor) -> Tensor:
        """The classifier's logits at a state; they look at the top layer's h alone."""
        return self.model.out(self.top(s)).detach()

    def top(self, s: Tensor) -> Tensor:
        """The top layer's h."""
        return s[(self.layers - 1) * self.hidden : self.layers * self.hidden]


def fixed_points(
    step: Callable[[Tensor], Tensor], starts: list[Tensor]
) -> list[dict[str, np.ndarray]]:
    """States s = step(s), by Newton's method from each start, with the Jacobian's eigenvalues.

    Newton's step solves (J − 1) Δ = s − step(s); it is halved until the residual shrinks, and a
    start from which it no longer does is given up. Attracting, repelling and saddle points are
    found alike.
    """
    jacobian = torch.func.jacfwd(step)
    found: list[dict[str, np.ndarray]] = []
    for s in starts:
        residual = step(s) - s
        for _ in range(NEWTON_STEPS):
            if residual.norm() < CONVERGED * s.norm().clamp(min=1):
                break
            slope = jacobian(s) - torch.eye(len(s), dtype=s.dtype)
            move, singular = torch.linalg.solve_ex(slope, -residual)
            if singular or not move.isfinite().all():
                move = torch.linalg.lstsq(slope, -residual).solution
            share = 1.0
            while share > 1e-3:
                there = s + share * move
                further = step(there) - there
                if further.norm() < residual.norm():
                    break
                share /= 2
            else:
                break
            s, residual = there, further
        if residual.norm() >= CONVERGED * s.norm().clamp(min=1):
            continue
        point = s.numpy()
        near = SAME * max(1.0, float(np.abs(point).max()))
        if all(np.abs(point - f["state"]).max() > near for f in found):
            found.append({"state": point, "eigenvalues": np.linalg.eigvals(jacobian(s).numpy())})
    return found


def dissect(model: CharRNN, string: str, label: str | None = None) -> dict[str, Any]:
    """Every number of the pictures, in plain lists. Raises `UserError` for an empty string."""
    if not string:
        raise UserError("string=: write the string to read, e.g. string=00001111")
    net = Dissected(model, label)
    codec = net.codec
    coded = codec.encode(string)
    symbols = [*codec.symbols, *["?"] * codec.unknown, *["end"] * codec.end, "start"]
    read = [codec.start_class, *coded[: len(codec.quantise(string))].tolist()]
    with torch.no_grad():
        states, parts = [torch.zeros(net.size, dtype=torch.float64)], []
        for symbol in read:
            s, part = net.step(symbol, states[-1])
            states.append(s)
            parts.append(part)
        logits_TV = torch.stack([net.logits(s) for s in states[1:]])
        maps = list(dict.fromkeys(read[1:]))[:MOST]
        points = {symbols[x]: fixed_points(net.map(x), _starts(net, states)) for x in maps}
    h_TH = torch.stack([net.top(s) for s in states[1:]]).numpy()
    plane = _plane(net, h_TH)
    likeliest = logits_TV.argmax(-1).tolist()
    spoken = list(dict.fromkeys([*likeliest, *coded.tolist()]))[:MOST]
    return {
        "cell": net.kind,
        "string": string,
        "label": label,
        "read": [symbols[x] for x in read],
        "likeliest": [symbols[x] for x in likeliest],
        "symbols": symbols[:-1],
        "probabilities": logits_TV.softmax(-1).tolist(),
        "units": {k: [p[k].tolist() for p in parts] for k in parts[0]},
        "plane": plane,
        "path": _project(net, plane, torch.stack(states[1:]).numpy()).tolist(),
        "decision_lines": [
            _line(net, plane, a, b, symbols) for a, b in itertools.combinations(sorted(spoken), 2)
        ],
        "fixed_points": {
            x: [
                {
                    "state": f["state"].tolist(),
                    "path": _project(net, plane, f["state"][None])[0].tolist(),
                    "likeliest": symbols[int(net.logits(torch.as_tensor(f["state"])).argmax())],
                    "eigenvalues": [[float(e.real), float(e.imag)] for e in _largest(f)],
                    "attracting": bool(np.abs(f["eigenvalues"]).max() < 1),
                }
                for f in found
            ]
            for x, found in points.items()
        },
    }


def _largest(found: dict[str, np.ndarray], n: int = 16) -> list[complex]:
    """The eigenvalues of greatest modulus, which decide how a state moves."""
    return sorted(found["eigenvalues"].tolist(), key=lambda e: -abs(e))[:n]


def _starts(net: Dissected, states: list[Tensor]) -> list[Tensor]:
    """Where to look for fixed points: visited states, and others at random in their box."""
    visited = torch.stack(states)
    rng = torch.Generator().manual_seed(0)
    n = max(8, STARTS // max(1, net.size // 16))  # a wide net's Jacobians are dear
    span = 1.5 * visited.abs().amax(0).clamp(min=1)
    drawn = (2 * torch.rand(n, net.size, generator=rng, dtype=torch.float64) - 1) * span
    some = visited[torch.linspace(0, len(visited) - 1, min(n, len(visited))).long()]
    return [*some, *drawn]


def _plane(net: Dissected, h_TH: np.ndarray) -> dict[str, Any]:
    """The plane that the state space is drawn in: origin and two directions of the top h.

    Two units are drawn as they are; one LSTM unit over its cell; more in the plane of the two
    principal components of the visited states.
    """
    if net.hidden == 1:
        axes = ["c", "h"] if net.kind == "lstm" else ["h", ""]
        return {"axes": axes, "origin": [0.0], "directions": [[0.0], [1.0]]}
    if net.hidden == 2:
        axes = ["unit 1", "unit 2"]
        return {"axes": axes, "origin": [0.0, 0.0], "directions": np.eye(2).tolist()}
    centre = h_TH.mean(0)
    _, scale, directions = np.linalg.svd(h_TH - centre, full_matrices=True)
    share = np.zeros(2)
    share[: len(scale)] = (scale**2 / max(float((scale**2).sum()), 1e-300))[:2]
    axes = [f"component {k + 1} ({share[k]:.0%} of the variance)" for k in range(2)]
    return {"axes": axes, "origin": centre.tolist(), "directions": directions[:2].tolist()}


def _project(net: Dissected, plane: dict[str, Any], states: np.ndarray) -> np.ndarray:
    """States (N, S) → coordinates (N, 2) in the plane."""
    n = net.layers * net.hidden
    h_NH = states[:, n - net.hidden : n]
    if net.hidden == 1:
        across = states[:, -1:] if net.kind == "lstm" else h_NH
        return np.hstack([across, h_NH if net.kind == "lstm" else 0 * h_NH])
    return (h_NH - np.array(plane["origin"])) @ np.array(plane["directions"]).T


def _line(
    net: Dissected, plane: dict[str, Any], a: int, b: int, symbols: list[str]
) -> dict[str, Any]:
    """Where the logits of two symbols are equal: normal · (x, y) + offset = 0, a beyond 0."""
    out = net.model.out
    w_H = (out.weight[a] - out.weight[b]).detach().numpy()
    bias = float((out.bias[a] - out.bias[b]).detach())
    if net.hidden == 1:
        normal = [0.0, float(w_H[0])] if net.kind == "lstm" else [float(w_H[0]), 0.0]
        return {"symbols": [symbols[a], symbols[b]], "normal": normal, "offset": bias}
    normal = (np.array(plane["directions"]) @ w_H).tolist()
    offset = bias + float(np.array(plane["origin"]) @ w_H)
    return {"symbols": [symbols[a], symbols[b]], "normal": normal, "offset": offset}
