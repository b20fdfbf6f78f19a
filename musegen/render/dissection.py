"""Pictures of a dissected net: units, probabilities, state space, gates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from musegen.runtime.atomic import replacing

LINES_AT_MOST = 8
"""More units than these are drawn as a map of colours."""
GATES = {
    "h": ("output h", (-1, 1)), "c": ("cell c", None), "i": ("input gate i", (0, 1)),
    "f": ("forget gate f", (0, 1)), "o": ("output gate o", (0, 1)), "g": ("candidate g", (-1, 1)),
}  # fmt: skip
"""An LSTM's parts: title and range."""
TICKS = 32
"""Symbols written below a picture as wide as the page."""
APART = 14
"""Pixels between step numbers; nearer ones are left out."""


def draw(numbers: dict[str, Any], folder: Path) -> list[Path]:
    """Write units.png, outputs.png, states.png and, for an LSTM, gates.png."""
    pictures = {"units": _units, "outputs": _outputs, "states": _states}
    if "c" in numbers["units"]:
        pictures["gates"] = _gates
    paths = []
    for name, picture in pictures.items():
        metric = Figure(figsize=(9, 6), layout="constrained")
        picture(numbers, metric)
        paths.append(folder / f"{name}.png")
        with replacing(paths[-1], "wb") as file:
            metric.savefig(file, format="png", dpi=110)
    return paths


def _units(numbers: dict[str, Any], metric: Figure) -> None:
    axes = metric.add_subplot()
    _over_time(axes, np.array(numbers["units"]["h"]), numbers["read"], "unit", TICKS)
    axes.set_ylabel("unit" if len(numbers["units"]["h"][0]) > LINES_AT_MOST else "h")
    axes.set_xlabel("symbol read, step")
    axes.set_title("hidden units after reading each symbol", loc="left")


def _gates(numbers: dict[str, Any], metric: Figure) -> None:
    panels = metric.subplots(3, 2, sharex=True).ravel()
    for axes, (key, (title, limits)) in zip(panels, GATES.items(), strict=True):
        values_TH = np.array(numbers["units"][key])
        _over_time(axes, values_TH, numbers["read"], "unit", TICKS // 2)
        if limits and values_TH.shape[1] <= LINES_AT_MOST:
            margin = 0.06 * (limits[1] - limits[0])
            axes.set_ylim(limits[0] - margin, limits[1] + margin)
        axes.set_title(title, loc="left", fontsize=10)


def _outputs(numbers: dict[str, Any], metric: Figure) -> None:
    axes = metric.add_subplot()
    p_TV = np.array(numbers["probabilities"])
    shown = np.sort(np.argsort(-p_TV.max(0))[:LINES_AT_MOST])
    for v in shown:
        axes.plot(p_TV[:, v], marker=".", label=_visible(numbers["symbols"][v]))
    axes.set_ylim(-0.03, 1.03)
    axes.set_title("probability of the next symbol", loc="left")
    axes.legend(title="next", loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_xlabel("symbol read, step")
    _read_along(axes, numbers["read"], TICKS)


def _states(numbers: dict[str, Any], metric: Figure) -> None:
    axes = metric.add_subplot()
    path = np.array(numbers["path"])
    points = [p["path"] for found in numbers["fixed_points"].values() for p in found]
    everything = np.array([*path.tolist(), *[p for p in points if _near(p, path)]])
    low, high = everything.min(0), everything.max(0)
    margin = 0.08 * np.maximum(high - low, 0.1)
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    for k, line in enumerate(numbers["decision_lines"]):
        names = " | ".join(_visible(s) for s in line["symbols"])
        _draw_line(axes, line, colormaps["Dark2"](k), names)
    axes.plot(path[:, 0], path[:, 1], color="0.75", linewidth=1, zorder=1)
    symbols = list(dict.fromkeys(numbers["read"]))
    for k, symbol in enumerate(symbols):
        here = np.array([p for p, s in zip(path, numbers["read"], strict=True) if s == symbol])
        axes.scatter(
            here[:, 0],
            here[:, 1],
            s=18,
            color=f"C{k}",
            label=f"after {_visible(symbol)}",
            zorder=2,
        )
    numbered: list[np.ndarray] = []
    for step, here in enumerate(axes.transData.transform(path)):
        if all(np.abs(here - other).max() >= APART for other in numbered):
            numbered.append(here)
            axes.annotate(str(step), path[step], (3, 3), textcoords="offset points", fontsize=7)
    for symbol, found in numbers["fixed_points"].items():
        for p in found:
            if not _near(p["path"], path):
                continue
            first = "  ".join(_eigenvalue(e) for e in p["eigenvalues"][:2])
            marker, kind = ("*", "attracting") if p["attracting"] else ("X", "not attracting")
            x, y = p["path"]
            axes.scatter(x, y, marker=marker, s=140, color=f"C{symbols.index(symbol)}",
                         edgecolor="black", zorder=3,
                         label=f"fixed by {_visible(symbol)}, {kind}:\nλ = {first}")  # fmt: skip
    axes.set_xlabel(numbers["plane"]["axes"][0])
    axes.set_ylabel(numbers["plane"]["axes"][1])
    axes.set_title("state space with step numbers; dashed: the classifier's lines", loc="left")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _near(point: list[float], path: np.ndarray) -> bool:
    """Whether a fixed point lies where the picture looks; one at c = 10⁶ would flatten it."""
    low, high = path.min(0), path.max(0)
    span = np.maximum(high - low, 0.1)
    return bool((np.abs(np.array(point) - (low + high) / 2) < 1.5 * span).all())


def _draw_line(axes: Axes, line: dict[str, Any], colour: Any, names: str) -> None:
    (nx, ny), offset = line["normal"], line["offset"]
    if abs(nx) + abs(ny) < 1e-12:
        return
    on_line = -offset * np.array([nx, ny]) / (nx**2 + ny**2)
    other = on_line + np.array([-ny, nx]) / np.hypot(nx, ny)
    axes.axline(tuple(on_line), tuple(other), color=colour, linestyle="--", linewidth=1,
                label=names)  # fmt: skip


def _over_time(axes: Axes, values_TH: np.ndarray, read: list[str], what: str, ticks: int) -> None:
    if values_TH.shape[1] > LINES_AT_MOST:
        most = np.abs(values_TH).max()
        image = axes.imshow(values_TH.T, aspect="auto", cmap="RdBu_r", vmin=-most, vmax=most,
                            interpolation="nearest")  # fmt: skip
        axes.figure.colorbar(image, ax=axes)
    else:
        for k, values_T in enumerate(values_TH.T):
            axes.plot(values_T, marker=".", label=f"{what} {k + 1}")
        if values_TH.shape[1] > 1:
            axes.legend(fontsize=8)
        axes.ticklabel_format(axis="y", useOffset=False)
    _read_along(axes, read, ticks)


def _read_along(axes: Axes, read: list[str], most: int) -> None:
    """The symbols that were read, below the steps; every so many if there are more than `most`."""
    names = [_visible(s) for s in read]
    every = math.ceil(len(names) / most)
    steps = range(0, len(names), every)
    axes.set_xticks(list(steps), [f"{names[t]}\n{t}" for t in steps], fontsize=7)
    axes.grid(alpha=0.3)


def _visible(symbol: str) -> str:
    return {"\n": "⏎", " ": "␣", "start": "start", "end": "end"}.get(symbol, symbol)


def _eigenvalue(e: list[float]) -> str:
    return f"{e[0]:.3g}" if abs(e[1]) < 1e-9 else f"{e[0]:.3g}{e[1]:+.3g}i"
