"""Piano-rolls and curves, drawn with matplotlib and written as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MultipleLocator

from musegen.runtime.atomic import replacing

SECONDS_PER_INCH = 6.0


def piano_roll(notes: np.ndarray, path: str | Path, title: str = "") -> None:
    """Draw `NOTES` as bars: time in seconds × MIDI pitch. Louder notes are darker."""
    seconds = notes["end"].max(initial=1.0)
    width = float(np.clip(seconds / SECONDS_PER_INCH, 6, 60))
    figure = Figure(figsize=(width, 4), layout="constrained")
    axes = figure.add_subplot()
    bars = PatchCollection(
        [Rectangle((n["start"], n["pitch"] - 0.45), n["end"] - n["start"], 0.9) for n in notes],
        cmap="viridis_r",
        linewidth=0,
    )
    bars.set_array(notes["velocity"].astype(float))
    bars.set_clim(0, 127)
    axes.add_collection(bars)
    axes.set_xlim(0, seconds)
    axes.set_ylim(int(notes["pitch"].min(initial=60)) - 3, int(notes["pitch"].max(initial=72)) + 3)
    axes.set_xlabel("time (s)")
    axes.set_ylabel("MIDI note")
    axes.yaxis.set_major_locator(MultipleLocator(12))
    axes.yaxis.set_major_formatter(lambda pitch, _: f"C{int(pitch) // 12 - 1} ({int(pitch)})")
    axes.grid(axis="y", alpha=0.3)
    figure.colorbar(bars, label="velocity", pad=0.01)
    if title:
        axes.set_title(title, loc="left", fontsize=10)
    with replacing(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)


def learning_rate_curve(
    lr_N: Sequence[float], loss_N: Sequence[float], chosen: float, path: Path
) -> None:
    """Draw the loss over the learning rate, with a line at the rate that was chosen."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.semilogx(lr_N, loss_N)
    axes.axvline(chosen, color="C1", label=f"{chosen:.3g}")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss, running mean")
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(path, "wb") as file:
        figure.savefig(file, format="png", dpi=110)
