"""Learning curves as SVG that takes its colours from the page around it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 26


class Series(NamedTuple):
    """A line: (epoch, value) points, which of the page's colours, and whether it is dashed."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int
    dashed: bool


def line_chart(title: str, series: Sequence[Series]) -> Markup:
    """One panel: epochs to the right, values upward, ticks at round numbers.

    Values that are no finite numbers break their line. The text alternative says where each line
    begins and ends.
    """
    finite = [[p for p in s.points if math.isfinite(p[1])] for s in series]
    everything = [p for points in finite for p in points]
    if not everything:
        return Markup("")
    x_ticks = _ticks([x for x, _ in everything], whole=True)
    y_ticks = _ticks([y for _, y in everything], whole=False)
    x_low, x_high = min(x for x, _ in everything), max(x for x, _ in everything)
    y_low = min(y_ticks[0], *(y for _, y in everything))
    y_high = max(y_ticks[-1], *(y for _, y in everything))

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low or 1)
        up = (y - y_low) / (y_high - y_low or 1)
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    spoken = "; ".join(
        f"{s.name} from {points[0][1]:.4g} in epoch {points[0][0]:g} "
        f"to {points[-1][1]:.4g} in epoch {points[-1][0]:g}"
        for s, points in zip(series, finite, strict=True)
        if points
    )
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"{title}: {spoken}")}">'
    ]
    for y in y_ticks:
        _, py = at(x_low, y)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py}" y2="{py}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{py + 4}" text-anchor="end">{_plain(y)}</text>')
    for x in x_ticks:
        if x_low <= x <= x_high:
            px, _ = at(x, y_low)
            anchor = "end" if px > WIDTH - RIGHT - 12 else "middle"
            parts.append(f'<text x="{px}" y="{HEIGHT - 8}" text-anchor="{anchor}">{x:g}</text>')
    for s in series:
        kind = f'class="line c{s.colour}{" dashed" if s.dashed else ""}"'
        for run in _runs(s.points):
            if len(run) == 1:
                px, py = at(*run[0])
                parts.append(f'<circle {kind} cx="{px}" cy="{py}" r="2"/>')
            else:
                path = " ".join(f"{px},{py}" for px, py in (at(*p) for p in run))
                parts.append(f'<polyline {kind} points="{path}"/>')
    return Markup("".join([*parts, "</svg>"]))


def _ticks(values: Sequence[float], whole: bool) -> list[float]:
    locator = MaxNLocator(nbins=4, integer=whole, steps=[1, 2, 2.5, 5, 10])
    low, high = min(values), max(values)
    spread = abs(high) * 0.1 or 1.0
    return [float(t) for t in locator.tick_values(low, high if high > low else low + spread)]


def _plain(value: float) -> str:
    return f"{value:.5g}".replace("-", "−")


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Stretches of finite points."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]
