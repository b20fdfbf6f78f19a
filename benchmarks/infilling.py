"""Does rewriting beat left-to-right sampling? Surprise at a region and at the frames after it.

    MUSEGEN_DATA=DIR python benchmarks/infilling.py run=jsb data=JSB_Chorales
    MUSEGEN_DATA=DIR python benchmarks/infilling.py run=nottingham data=Nottingham pieces=12 frames=32

In each of the first `pieces` validation pieces that are long enough (cut after 128 frames) the
`frames` frames from a third of the piece on are replaced:

- original: not at all;
- left-to-right: by one sample of the model that knows the frames before the region only;
- infill: by `RollModel.infill` with its defaults, which knows the frames after it, too.

Prints −log p in nats per frame under the model, the mean over pieces ± its standard error: of the
region, of the 16 frames after it, of both, and the seconds that a piece took.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from datamodules.roll_benchmark import RollBenchmark
from musegen.cli import console
from musegen.errors import UserError
from musegen.models.layers.particle_gibbs import Effort
from musegen.models.roll_model import RollModel
from musegen.sharing.locate import load

LONGEST, AFTER = 128, 16


def compare(run: str, data: str, pieces: int, frames: int) -> None:
    model = load(run)
    if not isinstance(model, RollModel) or model.codec is None:
        raise UserError(f"run={run}: is no model of piano-rolls")
    model.codec = replace(model.codec, common_key=False)  # the data sets are transposed already
    module = RollBenchmark(data)
    module.prepare_data()
    module.setup("validate")
    rolls = [roll[:LONGEST] for roll in module.rolls["val"]]
    rolls = [roll for roll in rolls if len(roll) * 2 // 3 >= frames + AFTER][:pieces]
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


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        settings = {"run": "jsb", "data": "JSB_Chorales", "pieces": 20, "frames": 16}
        settings |= console.key_values(sys.argv[1:])
        torch.set_num_threads(1)
        numbers = int(settings["pieces"]), int(settings["frames"])
        compare(str(settings["run"]), str(settings["data"]), *numbers)


if __name__ == "__main__":
    main()
