"""Does rewriting beat left-to-right sampling? Surprise at a region and at the frames after it.

    MUSEGEN_DATA=DIR python benchmarks/infilling.py run=jsb data=JSB_Chorales
    MUSEGEN_DATA=DIR python benchmarks/infilling.py run=nottingham data=Nottingham frames=32
    MUSEGEN_DATA=DIR python benchmarks/infilling.py picture=FILE.png

In each of the first `pieces` validation pieces that are long enough (cut after 128 frames) the
`frames` frames from a third of the piece on are replaced:

- original: not at all;
- left-to-right: by one sample of the model that knows the frames before the region only;
- infill: by `RollModel.infill` with its defaults, which knows the frames after it, too.

Prints −log p in nats per frame under the model, the mean over pieces ± its standard error: of the
region, of the 16 frames after it, of both, and the seconds that a piece took. `picture` draws the
first piece instead: as it is, and with two infillings of the region.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure

from datamodules.roll_benchmark import RollBenchmark
from musegen.cli import console
from musegen.errors import UserError
from musegen.models.layers.particle_gibbs import Effort
from musegen.models.roll_model import RollModel
from musegen.sharing.locate import load

LONGEST, AFTER = 128, 16


def model_and_rolls(run: str, data: str, frames: int) -> tuple[RollModel, list[np.ndarray]]:
    """The model, and the validation pieces that are long enough."""
    model = load(run)
    if not isinstance(model, RollModel) or model.codec is None:
        raise UserError(f"run={run}: is no model of piano-rolls")
    model.codec = replace(model.codec, common_key=False)  # the data sets are transposed already
    module = RollBenchmark(data)
    module.prepare_data()
    module.setup("validate")
    rolls = [roll[:LONGEST] for roll in module.rolls["val"]]
    return model, [roll for roll in rolls if len(roll) * 2 // 3 >= frames + AFTER]


def compare(run: str, data: str, pieces: int, frames: int) -> None:
    model, rolls = model_and_rolls(run, data, frames)
    rolls = rolls[:pieces]
    infill = {"original": None, "left-to-right": Effort(1, 0, 0), "infill": model.infill_effort}
    print(f"{data}, {len(rolls)} pieces, {frames} frames")
    for name, effort in infill.items():
        if effort is not None:
            model.infill_effort = effort  # type: ignore[misc]
        settings = {"sweeps": 0} if name == "left-to-right" else {}
        rewrite = None if effort is None else lambda *a, s=settings: model.infill(*a, **s)[0]
        start = time.perf_counter()
        rows = np.array([nll_of(model, roll, frames, rewrite) for roll in rolls])
        seconds = (time.perf_counter() - start) / len(rolls)
        mean, error = rows.mean(0), rows.std(0, ddof=1) / np.sqrt(len(rows))
        shown = "   ".join(f"{m:5.2f} ± {e:.2f}" for m, e in zip(mean, error, strict=True))
        print(f"{name:14} {shown}   {seconds:.1f} s", flush=True)


def nll_of(
    model: RollModel, roll_TD: np.ndarray, frames: int, rewrite: Callable[..., np.ndarray] | None
) -> tuple[float, float, float]:
    """Nats per frame of the region, of the frames after it, and of both."""
    assert model.codec is not None
    notes, first = model.codec.decode(roll_TD), len(roll_TD) // 3
    if rewrite is not None:
        start, end = (k * model.codec.dt for k in (first, first + frames))
        notes = rewrite(notes, start, end)
    nll_T = model.surprise(notes)["nll"][first : first + frames + AFTER]
    return nll_T[:frames].mean(), nll_T[frames:].mean(), nll_T.mean()


def draw(run: str, data: str, frames: int, path: str) -> None:
    """The first piece, and two infillings; the region is shaded."""
    model, rolls = model_and_rolls(run, data, frames)
    assert model.codec is not None
    notes, first = model.codec.decode(rolls[0]), len(rolls[0]) // 3
    start, end = (k * model.codec.dt for k in (first, first + frames))
    pieces = [notes, *(model.infill(notes, start, end, seed=seed)[0] for seed in (0, 1))]
    figure = Figure(figsize=(7, 5), layout="constrained")
    all_axes = figure.subplots(3, 1, sharex=True, sharey=True)
    for axes, piece, title in zip(all_axes, pieces, ("original", "infill", "again"), strict=True):
        inside = (piece["start"] > start - 1e-6) & (piece["start"] < end - 1e-6)
        for note, new in zip(piece, inside, strict=True):
            width = note["end"] - note["start"]
            axes.barh(note["pitch"], width, 0.8, note["start"], color="C1" if new else "0.35")
        axes.axvspan(start, end, color="C1", alpha=0.12, linewidth=0)
        axes.set_ylabel("MIDI note")
        axes.set_title(title, loc="left", fontsize=9)
    all_axes[-1].set_xlabel("time (s)")
    figure.savefig(path, dpi=90)


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        settings = {"run": "jsb", "data": "JSB_Chorales", "pieces": 20, "frames": 16, "picture": ""}
        settings |= console.key_values(sys.argv[1:])
        torch.set_num_threads(1)
        source, frames = (str(settings["run"]), str(settings["data"])), int(settings["frames"])
        if settings["picture"]:
            draw(*source, frames, str(settings["picture"]))
        else:
            compare(*source, int(settings["pieces"]), frames)


if __name__ == "__main__":
    main()
