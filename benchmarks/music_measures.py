"""All metrics of a model's music, beside those of training and held-out pieces.

    python benchmarks/music_measures.py run=RUN out=DIR                    # 64 pieces
    python benchmarks/music_measures.py run=RUN out=DIR n=64 length=256 seeds=3
    python benchmarks/music_measures.py run=RUN out=DIR ais_steps=100     # a setting of generate
    python benchmarks/music_measures.py folder=DIR data=nottingham out=DIR

Prints the comparison of `musegen.metrics.music_comparison` for each seed, and writes
out/music.json. The pieces are written to out/seed_S; if that folder exists, they are read from it.
Held-out pieces are those of the validation split. The last table has medians over the seeds.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from music_samples import music_of

from musegen.cli import console
from musegen.errors import UserError
from musegen.metrics.holds import low_holds
from musegen.metrics.music import degenerate
from musegen.metrics.music_comparison import compare
from musegen.render.music_table import number, table_lines
from musegen.runtime.atomic import write_json

FEW = 0.1
"""A piece with notes below middle C in fewer of its frames has next to nothing there."""


def summary(music: dict[str, Any], pieces: list[np.ndarray], data: Any) -> dict[str, float]:
    """The numbers by which recipes are chosen."""
    measures, copied = music["measures"], music["copying"]
    chosen = {
        "headline": music["headline"],
        "headline of held-out pieces": music["held_out_headline"],
        "8-note runs found in training": copied["samples"]["runs_of_8"],
        "the same for held-out pieces": copied["held_out"]["runs_of_8"],
        "degenerate pieces": float(np.mean([degenerate(p) is not None for p in pieces])),
    }
    names = ["onsets_on_grid", "longest_note", "long_note_time", "scale_consistency",
             "repeated_patterns", "longest_low_hold", "low_hold_time"]  # fmt: skip
    for name in names:
        if name in measures:
            m = measures[name]
            chosen |= {f"{name}, median": m["samples"], f"{name}, 95 %": m["samples_95"],
                       f"{name}, training median": m["training"],
                       f"{name}, training 95 %": m["training_95"],
                       f"{name}, training 99 %": m["training_99"],
                       f"{name}, overlap ÷ ceiling": m["ratio"]}  # fmt: skip
    if data.frame is not None:
        few = [len(p) == 0 or low_holds(p, data.frame).sounding() < FEW for p in pieces]
        chosen["pieces with next to nothing below middle C"] = float(np.mean(few))
        seconds = max((p["end"].max() for p in pieces if len(p)), default=0.0)
        few = [low_holds(p[p["start"] < seconds], data.frame).sounding() < FEW
               for p in data.notes("train")]  # fmt: skip
        chosen["the same for training pieces"] = float(np.mean(few))
    return chosen


def main() -> None:
    with console.one_line_errors():
        console.quiet()
        arguments = console.key_values(sys.argv[1:])
        if "out" not in arguments:
            raise UserError("where to? add out=DIR")
        out = Path(arguments["out"])
        music = music_of(arguments)
        data = music.data
        training, held_out = data.notes("train"), data.notes("val")
        results, chosen = {}, {}
        for name, pieces in music.samples.items():
            results[name] = compare(pieces, training, held_out, data.beat, data.frame)
            if not results[name]:
                raise UserError(f"{name}: no piece has a note")
            print(f"\n{name}", *table_lines(results[name]), sep="\n")
            chosen[name] = summary(results[name], pieces, data)
        medians = {
            k: statistics.median(row[k] for row in chosen.values())
            for k in next(iter(chosen.values()))
        }
        print(f"\nmedian over {len(chosen)} seed(s)")
        for key, value in medians.items():
            print(f"  {key:<48}{number(value):>8}")
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "music.json", results | {"chosen": chosen, "median": medians})
        print(f"written to {out / 'music.json'}")


if __name__ == "__main__":
    main()
