"""Runs → one self-contained HTML page: nothing in it leaves the file, no network is asked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from musegen.baselines.by_spec import BASELINE_NAMES, with_baselines
from musegen.metrics.music import LABELS
from musegen.render import audio
from musegen.render.charts import Series, line_chart

NOTE_NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
COLOURS = 6
"""Runs that have a colour of their own; more begin again at the first."""
LOUDNESS = 4
"""Shades that velocities are drawn in."""


class Audio(NamedTuple):
    """A piece to play: its `NOTES`, the address of its .mid file, what is wrong with it if so."""

    name: str
    notes: np.ndarray
    midi: str
    problem: str | None


class Picture(NamedTuple):
    """A picture as a data: address."""

    name: str
    address: str
    tiles: int | None
    """Pixels across of a picture in which a pixel is a unit: it stays sharp when it grows."""


@dataclass(frozen=True)
class Run:
    """What a run folder tells."""

    name: str
    title: str
    facts: Mapping[str, str]
    """What was trained, ready to read, by the name of each fact."""
    commands: Mapping[str, str]
    config: str
    settings: Mapping[str, str]
    """The config, flat: `model.hidden` → its value."""
    history: Mapping[str, Sequence[tuple[float, float]]]
    """(epoch, value) of each logged metric, epochs counted from 1."""
    monitor: str
    test: Mapping[str, float]
    music: Mapping[str, Mapping[str, float]]
    pieces: Sequence[Audio] = field(default=())
    pictures: Sequence[Picture] = field(default=())
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def labelled(self) -> bool:
        """Whether there are test metrics of single labels."""
        return any("/" in name for name in self.test)


def page(runs: Sequence[Run]) -> str:
    """The page of one run, or of several side by side."""
    environment = Environment(
        loader=PackageLoader("musegen.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, rounded=rounded, clock=clock)
    environment.globals.update(piano_roll=piano_roll, notes_table=notes_table)
    source = environment.loader
    assert source is not None
    return environment.get_template("report.html").render(
        runs=runs,
        numbered=list(enumerate(runs)),
        colours=COLOURS,
        css=Markup(source.get_source(environment, "report.css")[0]),
        script=Markup(source.get_source(environment, "report.js")[0]),
        synthesiser={
            "rate": audio.RATE, "attack": audio.ATTACK, "release": audio.RELEASE,
            "ring": audio.RING, "partials": audio.PARTIALS,
        },
        facts=_rows([run.facts for run in runs]),
        differing=_differing(runs),
        charts=_charts(runs),
        tests=_test_rows(runs),
        by_label=_by_label(runs),
        labels=LABELS,
    )  # fmt: skip


def number(value: float | None) -> str:
    """Four significant digits; a dash for what there is not."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return text.replace("-", "−")


def rounded(value: float | None) -> str:
    """Two decimals; a dash for what there is not."""
    return "–" if value is None or math.isnan(value) else f"{value:.2f}"


def clock(seconds: float) -> str:
    """Minutes and seconds, as players show them."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def notes_table(notes: np.ndarray) -> list[list[int]]:
    """[start ms, length ms, pitch, velocity] rows for the page's player."""
    start = np.round(notes["start"] * 1000)
    length = np.round(notes["end"] * 1000) - start
    table = np.stack([start, length, notes["pitch"], notes["velocity"]], axis=1)
    return table.astype(int).tolist()


def piano_roll(piece: Audio) -> dict[str, Any]:
    """What the template draws a piece with.

    A view box of (seconds, semitones); per shade one path with a stroke per note; C's at their
    heights and times along the bottom, both in percent; a sentence that says what is seen.
    """
    notes = piece.notes
    seconds = float(notes["end"].max(initial=1.0))
    low = int(notes["pitch"].min(initial=60)) - 2
    high = int(notes["pitch"].max(initial=72)) + 2
    shade = notes["velocity"].astype(int) * LOUDNESS // 128
    paths = []
    for k in range(LOUDNESS):
        strokes = [
            f"M{n['start']:.3f} {high - int(n['pitch'])}h{n['end'] - n['start']:.3f}"
            for n in notes[shade == k]
        ]
        paths.append("".join(strokes))
    height = high - low
    step = 1 if seconds <= 8 else 2 if seconds <= 16 else 5  # a long piece is as much wider
    spoken = f"{len(notes)} notes in {seconds:.0f} s"
    if len(notes):
        spoken += f", {pitch_name(low + 2)} to {pitch_name(high - 2)}"
    return {
        "seconds": seconds,
        "height": height,
        "paths": paths,
        "octaves": [
            (pitch_name(p), high - p, 100 * (high - p) / height)
            for p in range(-(-low // 12) * 12, high + 1, 12)
        ],
        # A time at the right edge would be cut off.
        "times": [(clock(t), 100 * t / seconds) for t in range(0, int(0.97 * seconds) + 1, step)],
        "spoken": spoken,
    }


def pitch_name(pitch: int) -> str:
    """MIDI 60 → C4."""
    return f"{NOTE_NAMES[pitch % 12]}{pitch // 12 - 1}"


def _rows(tables: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Any]]]:
    """Several tables as one, a column each, in the order in which names appear."""
    names = dict.fromkeys(name for table in tables for name in table)
    return [(name, [table.get(name) for table in tables]) for name in names]


def _differing(runs: Sequence[Run]) -> list[tuple[str, list[str | None]]]:
    """Settings in which the runs are not alike."""
    rows = _rows([run.settings for run in runs])
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _charts(runs: Sequence[Run]) -> list[tuple[str, Markup, list[Series]]]:
    """A panel per metric, training beside validation; the monitored one first."""
    panels: dict[str, list[Series]] = {}
    for i, run in enumerate(runs):
        for name, points in run.history.items():
            stage, _, metric = name.partition("/")
            spoken = f"{run.name} {stage}" if len(runs) > 1 else stage
            series = Series(spoken, points, i % COLOURS, stage == "train")
            panels.setdefault(metric or name, []).append(series)
    monitored = {run.monitor.partition("/")[2] for run in runs}
    order = sorted(panels, key=lambda metric: metric not in monitored)
    return [(metric, line_chart(metric, panels[metric]), panels[metric]) for metric in order]


def _test_rows(runs: Sequence[Run]) -> list[tuple[str, str, list[float | None]]]:
    """(metric, baseline, values): a metric's row, and below it those of its baselines.

    What only baselines have stands at the end and names its metric as well. Figures of single
    labels have a table of their own.
    """
    metrics = dict(_rows([run.test for run in runs]))
    rows = []
    for name, metric, baseline in with_baselines(f for f in metrics if "/" not in f):
        spoken = BASELINE_NAMES.get(baseline, "")
        if baseline and metric not in metrics:
            spoken += f", {metric}"
        rows.append((metric, spoken, metrics[name]))
    return rows


class Labelled(NamedTuple):
    """Figures of each label, of all runs that have any."""

    headings: list[str]
    """Of a run's columns; baselines are called so."""
    rows: list[tuple[str, list[float | None]]]
    """(label, values), a run's columns after another's."""


def _by_label(runs: Sequence[Run]) -> Labelled:
    """`bits/Dutch` and `ngram_bpc/Dutch` → the columns bits and baseline best n-gram."""
    parted = [name.split("/", 1) for run in runs for name in run.test if "/" in name]
    labels = list(dict.fromkeys(label for _, label in parted))
    columns = with_baselines(dict.fromkeys(metric for metric, _ in parted))
    headings = [
        f"baseline {BASELINE_NAMES[b]}" if b else f.replace("_", " ") for _, f, b in columns
    ]
    rows = []
    for label in labels:
        keys = [f"{name}/{label}" for name, _, _ in columns]
        rows.append((label, [run.test.get(k) for run in runs if run.labelled for k in keys]))
    return Labelled(headings, rows)
