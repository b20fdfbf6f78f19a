"""Pictures of the internal states of a `char_rnn`: units, probabilities, state space, gates."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, rc_context, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from musegen.runtime.atomic import replacing

MAX_LINES = 8
"""More units are drawn as an image instead of lines."""
GATES = {
    "h": ("output h", (-1, 1)), "c": ("cell c", None), "i": ("input gate i", (0, 1)),
    "f": ("forget gate f", (0, 1)), "o": ("output gate o", (0, 1)), "g": ("candidate g", (-1, 1)),
}  # fmt: skip
"""The values of an LSTM: title and range."""
TICKS = 32
"""Symbols below the axis of a picture, at most."""
DARK = "_dark"
"""The end of the names of pictures for a dark page."""
LIGHT_STYLE: Any = {"image.cmap": "Dark2"}
DARK_STYLE: Any = {
    "image.cmap": "Set2",
    **{f"{part}.facecolor": "#1d2027" for part in ("figure", "axes", "savefig", "legend")},
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), "#e9eaee"),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), "#a4a9b5"),
    "axes.prop_cycle": cycler(color=["#8fb2ff", "#ffb27a", "#5fd6c5", "#f29ad9", "#bcd86a",
                                     "#c3adff", "#ff9c94", "#d9c27e"]),
}  # fmt: skip
"""The colours of the report's dark style sheet. `image.cmap` is that of the decision lines."""
MIN_DISTANCE = 14
"""Pixels between step numbers. Closer ones are left out."""


def draw(values: dict[str, Any], folder: Path) -> list[Path]:
    """Write units.png, outputs.png, states.png and, for an LSTM, gates.png, each of them also for
    a dark page as `…_dark.png`.

    `values` are those of `musegen.models.dissection.dissect`. Returns the paths.
    """
    pictures = {"units": _units, "outputs": _outputs, "states": _states}
    if "c" in values["units"]:
        pictures["gates"] = _gates
    paths = []
    for name, draw_picture in pictures.items():
        for suffix, style in {"": LIGHT_STYLE, DARK: DARK_STYLE}.items():
            with rc_context(style):
                figure = Figure(figsize=(9, 6), layout="constrained")
                draw_picture(values, figure)
                paths.append(folder / f"{name}{suffix}.png")
                with replacing(paths[-1], "wb") as file:
                    figure.savefig(file, format="png", dpi=110)
    return paths


def _units(values: dict[str, Any], figure: Figure) -> None:
    axes = figure.add_subplot()
    _over_time(axes, np.array(values["units"]["h"]), values["read"], "unit", TICKS)
    axes.set_ylabel("unit" if len(values["units"]["h"][0]) > MAX_LINES else "h")
    axes.set_xlabel("symbol read, step")
    axes.set_title("hidden units after reading each symbol", loc="left")


def _gates(values: dict[str, Any], figure: Figure) -> None:
    panels = figure.subplots(3, 2, sharex=True).ravel()
    for axes, (key, (title, limits)) in zip(panels, GATES.items(), strict=True):
        values_TH = np.array(values["units"][key])
        _over_time(axes, values_TH, values["read"], "unit", TICKS // 2)
        if limits and values_TH.shape[1] <= MAX_LINES:
            margin = 0.06 * (limits[1] - limits[0])
            axes.set_ylim(limits[0] - margin, limits[1] + margin)
        axes.set_title(title, loc="left", fontsize=10)


def _outputs(values: dict[str, Any], figure: Figure) -> None:
    axes = figure.add_subplot()
    p_TV = np.array(values["probabilities"])
    shown = np.sort(np.argsort(-p_TV.max(0))[:MAX_LINES])
    for v in shown:
        axes.plot(p_TV[:, v], marker=".", label=_visible(values["symbols"][v]))
    axes.set_ylim(-0.03, 1.03)
    axes.set_title("probability of the next symbol", loc="left")
    axes.legend(title="next", loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set_xlabel("symbol read, step")
    _label_steps(axes, values["read"], TICKS)


def _states(values: dict[str, Any], figure: Figure) -> None:
    axes = figure.add_subplot()
    path = np.array(values["path"])
    _set_limits(axes, values, path)
    for k, line in enumerate(values["decision_lines"]):
        names = " | ".join(_visible(s) for s in line["symbols"])
        _draw_line(axes, line, colormaps[rcParams["image.cmap"]](k), names)
    axes.plot(path[:, 0], path[:, 1], color=rcParams["grid.color"], linewidth=1, zorder=1)
    symbols = list(dict.fromkeys(values["read"]))
    for k, symbol in enumerate(symbols):
        states = np.array([p for p, s in zip(path, values["read"], strict=True) if s == symbol])
        axes.scatter(
            states[:, 0],
            states[:, 1],
            s=18,
            color=f"C{k}",
            label=f"after {_visible(symbol)}",
            zorder=2,
        )
    _number_steps(axes, path)
    for symbol, points in values["fixed_points"].items():
        for point in points:
            if _is_visible(point["path"], path):
                _draw_fixed_point(axes, point, symbol, f"C{symbols.index(symbol)}")
    axes.set_xlabel(values["plane"]["axes"][0])
    axes.set_ylabel(values["plane"]["axes"][1])
    axes.set_title("state space with step numbers; dashed: decision lines", loc="left")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))


def _set_limits(axes: Axes, values: dict[str, Any], path: np.ndarray) -> None:
    """Limits that contain the path and the fixed points close to it."""
    points = [p["path"] for of_symbol in values["fixed_points"].values() for p in of_symbol]
    drawn = np.array([*path.tolist(), *[p for p in points if _is_visible(p, path)]])
    low, high = drawn.min(0), drawn.max(0)
    margin = 0.08 * np.maximum(high - low, 0.1)
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])


def _number_steps(axes: Axes, path: np.ndarray) -> None:
    numbered: list[np.ndarray] = []
    for step, pixel in enumerate(axes.transData.transform(path)):
        if all(np.abs(pixel - other).max() >= MIN_DISTANCE for other in numbered):
            numbered.append(pixel)
            axes.annotate(str(step), path[step], (3, 3), textcoords="offset points", fontsize=7)


def _draw_fixed_point(axes: Axes, point: dict[str, Any], symbol: str, colour: str) -> None:
    eigenvalues = "  ".join(_eigenvalue(e) for e in point["eigenvalues"][:2])
    marker, kind = ("*", "attracting") if point["attracting"] else ("X", "not attracting")
    x, y = point["path"]
    label = f"fixed point of {_visible(symbol)}, {kind}:\nλ = {eigenvalues}"
    axes.scatter(
        x,
        y,
        marker=marker,
        s=140,
        color=colour,
        edgecolor=rcParams["text.color"],
        zorder=3,
        label=label,
    )


def _is_visible(point: list[float], path: np.ndarray) -> bool:
    """Whether a fixed point is close to the path. One at c = 10⁶ would hide all details."""
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
    if values_TH.shape[1] > MAX_LINES:
        limit = np.abs(values_TH).max()
        image = axes.imshow(values_TH.T, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit,
                            interpolation="nearest")  # fmt: skip
        axes.figure.colorbar(image, ax=axes)
    else:
        for k, values_T in enumerate(values_TH.T):
            axes.plot(values_T, marker=".", label=f"{what} {k + 1}")
        if values_TH.shape[1] > 1:
            axes.legend(fontsize=8)
        axes.ticklabel_format(axis="y", useOffset=False)
    _label_steps(axes, read, ticks)


def _label_steps(axes: Axes, read: list[str], most: int) -> None:
    """Label the steps with the input symbols, at most `most` of them."""
    names = [_visible(s) for s in read]
    every = math.ceil(len(names) / most)
    steps = range(0, len(names), every)
    axes.set_xticks(list(steps), [f"{names[t]}\n{t}" for t in steps], fontsize=7)
    axes.grid(alpha=0.3)


def _visible(symbol: str) -> str:
    return {"\n": "⏎", " ": "␣", "start": "start", "end": "end"}.get(symbol, symbol)


def _eigenvalue(e: list[float]) -> str:
    return f"{e[0]:.3g}" if abs(e[1]) < 1e-9 else f"{e[0]:.3g}{e[1]:+.3g}i"
