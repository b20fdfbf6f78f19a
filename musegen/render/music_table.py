"""The metrics of music.json as text: the table of a terminal, and a summary of a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from musegen.metrics.copying import RUN
from musegen.metrics.music_comparison import ALL_MEASURES

HAZARD_AGES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
"""The ages whose hazards are shown."""
WORST = 3
"""How many metrics the summary names."""


def number(value: float | None) -> str:
    """Three significant digits; a dash for a missing value."""
    return "–" if value is None or value != value else f"{value:.3g}"


def spread(measure: Mapping[str, float | None], side: str) -> str:
    """Median and, in brackets, the 5 % and 95 % quantiles of the excerpts of a side."""
    median, low, high = (number(measure.get(f"{side}{q}")) for q in ("", "_5", "_95"))
    return f"{median} [{low} … {high}]"


def table_lines(music: Mapping[str, Any]) -> list[str]:
    """The whole comparison (`musegen.metrics.music_comparison.compare`), one row per metric."""
    counts = music["excerpts"]
    rows: list[tuple[str, ...]] = [
        (
            "median [5 % … 95 %] over excerpts",
            "samples",
            "training",
            "held-out",
            "÷ ceiling",
            "held-out",
        )
    ]
    rows += [
        (ALL_MEASURES[name].label, *(spread(m, s) for s in ("samples", "training", "held_out")),
         number(m["ratio"]), number(m["held_out_ratio"]))
        for name, m in music["measures"].items()
    ]  # fmt: skip
    rows.append(("headline: mean of overlap ÷ ceiling", "", "", "", number(music["headline"]),
                 number(music["held_out_headline"])))  # fmt: skip
    return [
        f"{counts['samples']} excerpts of samples, {counts['training']} of training pieces, "
        f"{counts['held_out']} of held-out pieces, {counts['seconds']:.1f} s each",
        *_aligned(rows),
        "",
        *_aligned(hazard_rows(music)),
        "",
        *_aligned(copying_rows(music)),
    ]


def hazard_rows(music: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The probability that a hold ends, by its age; the first row has the ages."""
    unit = music["hazard"]["unit"]
    what = "frames" if unit == 1 else f"{unit:g} s"
    names = {"samples": "samples", "training": "training pieces", "held_out": "held-out pieces"}
    return [
        (f"probability that a hold ends at age ({what})", *map(str, HAZARD_AGES)),
        *(
            (label, *(number(music["hazard"][side][age - 1]) for age in HAZARD_AGES))
            for side, label in names.items()
            if side in music["hazard"]
        ),
    ]


def copying_rows(music: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """What samples share with the training pieces, beside what held-out pieces share."""
    samples, held_out = music["copying"]["samples"], music["copying"]["held_out"]
    share, longest = f"runs_of_{RUN}", ("longest", "longest_max")
    return [
        ("found in training, at any transposition", "samples", "held-out"),
        (f"{RUN}-note runs (fraction)", number(samples[share]), number(held_out[share])),
        ("longest run (notes), median / maximum",
         *(" / ".join(number(side[k]) for k in longest) for side in (samples, held_out))),
    ]  # fmt: skip


def summary_lines(music: Mapping[str, Any]) -> list[str]:
    """The headline, the worst metrics and the copying, for the terminal after a training run."""
    if not music:
        return []
    known = {k: m for k, m in music["measures"].items() if m["ratio"] == m["ratio"]}
    worst = sorted(known, key=lambda name: known[name]["ratio"])[:WORST]
    share = f"runs_of_{RUN}"
    copied, held_out = (music["copying"][side][share] for side in ("samples", "held_out"))
    return [
        f"music {music['headline']:.2f} of the overlap of real pieces "
        f"(held-out pieces {number(music['held_out_headline'])})",
        *(
            f"  {ALL_MEASURES[name].label} {number(m['samples'])}, training "
            f"{spread(m, 'training')}: {m['ratio']:.2f}"
            for name, m in ((name, known[name]) for name in worst)
        ),
        f"  {RUN}-note runs found in training: {number(copied)} (held-out pieces "
        f"{number(held_out)})",
    ]


def _aligned(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]
