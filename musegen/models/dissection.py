"""The internal states of a `char_rnn` while it reads one string.

Computes the values that `musegen.render.dissection_plots` draws: every hidden unit over time, the
state space with the classifier's decision lines, the output probabilities, an LSTM's gates, and the
fixed points of the maps state → cell(x, state) for each symbol x of the string, with the
eigenvalues of the Jacobian there. A network of two units counts with one fixed point per map, on
either side of the decision line, whose eigenvalues are reciprocal (Rodriguez, Wiles & Elman 1999).
All values are the network's: the n-gram model (`model.ngram_weight`) is left out.
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
from musegen.runtime.random_streams import Stream, torch_stream

MAX_SYMBOLS = 4
"""Decision lines and fixed points are computed for so many symbols: 6 lines, 4 maps."""
STARTS, NEWTON_STEPS = 60, 50
MAX_RESIDUAL, SAME_POINT = 1e-9, 1e-5
"""The residual of a fixed point, and the distance below which two points are the same. Both are
relative for states above 1, such as a cell that converges only after millions of steps."""


class Dissected:
    """One step of a `char_rnn` in double precision, as a function of its state.

    The state s (S,) is the concatenation of every layer's h and, for an LSTM, every layer's c.
    """

    def __init__(self, model: CharRNN, label: str | None = None) -> None:
        if model.codec.labels is not None and label is None:
            known = ", ".join(model.codec.labels[:5])
            raise UserError(f"this model needs a label: add label=NAME, e.g. {known}")
        self.model = copy.deepcopy(model).double().eval()
        self.codec = model.codec
        self.layers, self.hidden = self.model.cells.num_layers, self.model.cells.hidden_size
        self.kind = self.model.cells.mode.split("_")[0].lower()
        self.size = self.layers * self.hidden * (2 if self.kind == "lstm" else 1)
        embedding_VD = self.model.embed.weight.detach()
        if label is not None:
            label_class = self.codec.label_class(label)
            assert self.model.embed_label is not None
            embedding_VD = embedding_VD + self.model.embed_label.weight[label_class].detach()
        self.embedding_VD = embedding_VD

    def step(self, symbol: int, s: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The next state, and the top layer's values: h, and for an LSTM c, i, f, o and g."""
        n = self.layers * self.hidden
        h_old = s[:n].split(self.hidden)
        c_old = s[n:].split(self.hidden) if self.kind == "lstm" else ()
        x = self.embedding_VD[symbol]
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
        """The map s → cell(symbol, s)."""
        return lambda s: self.step(symbol, s)[0]

    def logits(self, s: Tensor) -> Tensor:
        """The classifier's logits at a state, a function of the top layer's h alone."""
        return self.model.out(self.top(s)).detach()

    def top(self, s: Tensor) -> Tensor:
        """The top layer's h."""
        return s[(self.layers - 1) * self.hidden : self.layers * self.hidden]


def fixed_points(
    step: Callable[[Tensor], Tensor], starts: list[Tensor]
) -> list[dict[str, np.ndarray]]:
    """States s = step(s), by Newton's method from each start, with the Jacobian's eigenvalues.

    Finds attracting, repelling and saddle points.
    """
    jacobian = torch.func.jacfwd(step)
    points: list[dict[str, np.ndarray]] = []
    for start in starts:
        s = _newton(step, jacobian, start)
        if s is None:
            continue
        state = s.numpy()
        distance = SAME_POINT * max(1.0, float(np.abs(state).max()))
        if all(np.abs(state - p["state"]).max() > distance for p in points):
            points.append({"state": state, "eigenvalues": np.linalg.eigvals(jacobian(s).numpy())})
    return points


def _newton(
    step: Callable[[Tensor], Tensor], jacobian: Callable[[Tensor], Tensor], s: Tensor
) -> Tensor | None:
    """The fixed point that damped Newton steps reach from s; None if they do not converge.

    A Newton step solves (J − 1) Δ = s − step(s). It is halved until the residual decreases.
    """
    residual = step(s) - s
    for _ in range(NEWTON_STEPS):
        if residual.norm() < MAX_RESIDUAL * s.norm().clamp(min=1):
            break
        matrix = jacobian(s) - torch.eye(len(s), dtype=s.dtype)
        move, singular = torch.linalg.solve_ex(matrix, -residual)
        if singular or not move.isfinite().all():
            move = torch.linalg.lstsq(matrix, -residual).solution
        factor = 1.0
        while factor > 1e-3:
            candidate = s + factor * move
            candidate_residual = step(candidate) - candidate
            if candidate_residual.norm() < residual.norm():
                break
            factor /= 2
        else:
            break
        s, residual = candidate, candidate_residual
    return s if residual.norm() < MAX_RESIDUAL * s.norm().clamp(min=1) else None


def dissect(
    model: CharRNN, string: str, label: str | None = None, fixed: bool = True
) -> dict[str, Any]:
    """All values of the pictures, as plain lists. Raises `UserError` for an empty string.

    `fixed` says whether fixed points are searched, which takes seconds.
    """
    if not string:
        raise UserError("string=: should be the string to read, e.g. string=00001111")
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
        mapped = list(dict.fromkeys(read[1:]))[:MAX_SYMBOLS] if fixed else []
        points = {symbols[x]: fixed_points(net.map(x), _starts(net, states)) for x in mapped}
    h_TH = torch.stack([net.top(s) for s in states[1:]]).numpy()
    plane = _plane(net, h_TH)
    likeliest = logits_TV.argmax(-1).tolist()
    compared = list(dict.fromkeys([*likeliest, *coded.tolist()]))[:MAX_SYMBOLS]
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
            _line(net, plane, a, b, symbols) for a, b in itertools.combinations(sorted(compared), 2)
        ],
        "fixed_points": {
            symbol: [_plain_fixed_point(net, plane, point, symbols) for point in of_symbol]
            for symbol, of_symbol in points.items()
        },
    }


def _plain_fixed_point(
    net: Dissected, plane: dict[str, Any], point: dict[str, np.ndarray], symbols: list[str]
) -> dict[str, Any]:
    state = point["state"]
    return {
        "state": state.tolist(),
        "path": _project(net, plane, state[None])[0].tolist(),
        "likeliest": symbols[int(net.logits(torch.as_tensor(state)).argmax())],
        "eigenvalues": [[float(e.real), float(e.imag)] for e in _largest(point)],
        "attracting": bool(np.abs(point["eigenvalues"]).max() < 1),
    }


def _largest(point: dict[str, np.ndarray], n: int = 16) -> list[complex]:
    """The eigenvalues of largest modulus, which dominate the dynamics at the point."""
    return sorted(point["eigenvalues"].tolist(), key=lambda e: -abs(e))[:n]


def _starts(net: Dissected, states: list[Tensor]) -> list[Tensor]:
    """Starts of the search for fixed points: visited states, and random ones in their range."""
    visited = torch.stack(states)
    rng = torch_stream(Stream.FIXED_POINTS, 0)
    n = max(8, STARTS // max(1, net.size // 16))  # a wide network's Jacobians are slow
    span = 1.5 * visited.abs().amax(0).clamp(min=1)
    random = (2 * torch.rand(n, net.size, generator=rng, dtype=torch.float64) - 1) * span
    selected = visited[torch.linspace(0, len(visited) - 1, min(n, len(visited))).long()]
    return [*selected, *random]


def _plane(net: Dissected, h_TH: np.ndarray) -> dict[str, Any]:
    """The plane in which the state space is drawn: origin and two directions of the top h.

    Two units are the axes themselves; one LSTM unit is drawn against its cell; more units are
    projected on the first two principal components of the visited states.
    """
    if net.hidden == 1:
        axes = ["c", "h"] if net.kind == "lstm" else ["h", ""]
        return {"axes": axes, "origin": [0.0], "directions": [[0.0], [1.0]]}
    if net.hidden == 2:
        axes = ["unit 1", "unit 2"]
        return {"axes": axes, "origin": [0.0, 0.0], "directions": np.eye(2).tolist()}
    centre = h_TH.mean(0)
    _, scale, directions = np.linalg.svd(h_TH - centre, full_matrices=True)
    fraction = np.zeros(2)
    fraction[: len(scale)] = (scale**2 / max(float((scale**2).sum()), 1e-300))[:2]
    axes = [f"component {k + 1} ({fraction[k]:.0%} of the variance)" for k in range(2)]
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
    """Where two symbols' logits are equal: normal · (x, y) + offset = 0; positive where a wins."""
    out = net.model.out
    w_H = (out.weight[a] - out.weight[b]).detach().numpy()
    bias = float((out.bias[a] - out.bias[b]).detach())
    if net.hidden == 1:
        normal = [0.0, float(w_H[0])] if net.kind == "lstm" else [float(w_H[0]), 0.0]
        return {"symbols": [symbols[a], symbols[b]], "normal": normal, "offset": bias}
    normal = (np.array(plane["directions"]) @ w_H).tolist()
    offset = bias + float(np.array(plane["origin"]) @ w_H)
    return {"symbols": [symbols[a], symbols[b]], "normal": normal, "offset": offset}
