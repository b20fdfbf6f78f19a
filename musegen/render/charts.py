"""Learning curves as SVG. The colours are defined by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 10, 26


class Series(NamedTuple):
    """A line: (epoch, value) points, the index of a colour, and whether it is dashed."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: int
    dashed: bool


def line_chart(title: str, series: Sequence[Series]) -> Markup:
    """One panel: epochs on the horizontal axis, values on the vertical one, round tick values.

    Values that are not finite interrupt their line. The text alternative contains the first and
    the last value of each line.
    """
    finite = [[p for p in s.points if math.isfinite(p[1])] for s in series]
    points = [p for of_line in finite for p in of_line]
    if not points:
        return Markup("")
    axes = _Axes(points)
    description = "; ".join(
        f"{s.name} from {of_line[0][1]:.4g} in epoch {of_line[0][0]:g} "
        f"to {of_line[-1][1]:.4g} in epoch {of_line[-1][0]:g}"
        for s, of_line in zip(series, finite, strict=True)
        if of_line
    )
    head = (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"{title}: {description}")}">'
    )
    lines = [part for s in series for part in _line(axes, s)]
    return Markup("".join([head, *axes.drawn(), *lines, "</svg>"]))


class _Axes:
    """The map from (epoch, value) to pixels, and the ticks."""

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        self.x_ticks = _ticks([x for x, _ in points], whole=True)
        self.y_ticks = _ticks([y for _, y in points], whole=False)
        self.x_low, self.x_high = min(x for x, _ in points), max(x for x, _ in points)
        self.y_low = min(self.y_ticks[0], *(y for _, y in points))
        self.y_high = max(self.y_ticks[-1], *(y for _, y in points))

    def pixels(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x_low) / (self.x_high - self.x_low or 1)
        up = (y - self.y_low) / (self.y_high - self.y_low or 1)
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    def drawn(self) -> list[str]:
        """Grid lines and tick labels."""
        parts = []
        right = WIDTH - RIGHT
        for y in self.y_ticks:
            _, py = self.pixels(self.x_low, y)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{py}" y2="{py}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{py + 4}" text-anchor="end">{_plain(y)}</text>')
        for x in self.x_ticks:
            if self.x_low <= x <= self.x_high:
                px, _ = self.pixels(x, self.y_low)
                anchor = "end" if px > right - 12 else "middle"
                parts.append(f'<text x="{px}" y="{HEIGHT - 8}" text-anchor="{anchor}">{x:g}</text>')
        return parts


def _line(axes: _Axes, series: Series) -> list[str]:
    """A polyline for each stretch of finite points; a circle for a single point."""
    style = f'class="line c{series.colour}{" dashed" if series.dashed else ""}"'
    parts = []
    for stretch in _finite_stretches(series.points):
        pixels = [axes.pixels(*p) for p in stretch]
        if len(pixels) == 1:
            px, py = pixels[0]
            parts.append(f'<circle {style} cx="{px}" cy="{py}" r="2"/>')
        else:
            path = " ".join(f"{px},{py}" for px, py in pixels)
            parts.append(f'<polyline {style} points="{path}"/>')
    return parts


def _ticks(values: Sequence[float], whole: bool) -> list[float]:
    locator = MaxNLocator(nbins=4, integer=whole, steps=[1, 2, 2.5, 5, 10])
    low, high = min(values), max(values)
    spread = abs(high) * 0.1 or 1.0
    return [float(t) for t in locator.tick_values(low, high if high > low else low + spread)]


def _plain(value: float) -> str:
    return f"{value:.5g}".replace("-", "−")


def _finite_stretches(
    points: Sequence[tuple[float, float]],
) -> list[list[tuple[float, float]]]:
    """The points in stretches without a value that is not finite."""
    stretches: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            stretches[-1].append(point)
        elif stretches[-1]:
            stretches.append([])
    return [stretch for stretch in stretches if stretch]
