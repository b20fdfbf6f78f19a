"""Runs → one self-contained HTML page, which needs no other file and no network."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from musegen.baselines.by_spec import BASELINE_NAMES, with_baselines
from musegen.metrics.music_comparison import ALL_MEASURES
from musegen.render.audio import for_page
from musegen.render.curves import COLOURS, panels
from musegen.render.metric_labels import BASELINES, explanation, metric_label, picture_label
from musegen.render.music_table import copying_rows, hazard_rows, spread
from musegen.render.setting_labels import setting_label
from musegen.render.shown import pitch_name

SHADES = 4
"""The number of shades for velocities."""


class Audio(NamedTuple):
    """A piece: its `NOTES`, its .mid file as a data: URL, and why it is degenerate, if it is."""

    name: str
    notes: np.ndarray
    midi_url: str
    problem: str | None


class Picture(NamedTuple):
    """A picture as a data: URL."""

    name: str
    url: str
    tile_width: int | None
    """The width of a tile image in pixels; None for other pictures. Tiles are enlarged sharply."""
    dark_url: str | None = None
    """The same picture for a dark page, if there is one."""


@dataclass(frozen=True)
class Run:
    """The contents of a run folder."""

    name: str
    title: str
    facts: Mapping[str, str]
    """Model, data, device, duration, …: texts by label."""
    commands: Mapping[str, str]
    config: str
    settings: Mapping[str, str]
    """The config with flat keys such as `model.hidden`."""
    history: Mapping[str, Sequence[tuple[float, float]]]
    """(epoch, value) of each logged metric. Epochs start at 1."""
    monitor: str
    test: Mapping[str, float]
    music: Mapping[str, Any]
    """The content of music.json: see `musegen.metrics.music_comparison.compare`."""
    pieces: Sequence[Audio] = field(default=())
    pictures: Sequence[Picture] = field(default=())
    texts: Mapping[str, str] = field(default_factory=dict)
    sound: str = "piano"
    """How the pieces sound: the setting `sound`."""
    loss_metric: tuple[int, str] | None = None
    """(sign, name) of the validation metric that the training loss is, if it is one."""
    setting_texts: Mapping[str, str] = field(default_factory=dict)
    """One line on each of the settings."""

    @property
    def labelled(self) -> bool:
        """Whether there are test metrics per label."""
        return any("/" in name for name in self.test)


@cache
def _environment() -> Environment:
    """Keeps the templates that it has compiled."""
    environment = Environment(
        loader=PackageLoader("musegen.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, rounded=rounded, clock=clock, breakable=breakable)
    environment.filters.update(picture_label=picture_label)
    environment.globals.update(
        piano_roll=piano_roll, notes_table=notes_table,
        hazard_rows=hazard_rows, copying_rows=copying_rows, spread=spread,
    )  # fmt: skip
    return environment


def page(runs: Sequence[Run]) -> str:
    """The HTML page of one run, or of several runs side by side."""
    environment = _environment()
    loader = environment.loader
    assert loader is not None

    def source(*names: str) -> Markup:
        return Markup("\n".join(loader.get_source(environment, name)[0] for name in names))

    sounds = [run.sound for run in runs if run.pieces]
    instrument = "additive" if set(sounds) == {"additive"} else "piano"
    return environment.get_template("report.html").render(
        runs=runs,
        numbered=list(enumerate(runs)),
        colours=COLOURS,
        css=source("report.css"),
        script=source("report.js"),
        instrument=for_page(instrument) if sounds else None,
        player_script=source(f"{instrument}.js", "player.js"),
        facts=_rows([run.facts for run in runs]),
        settings=_settings(runs),
        panels=panels(runs),
        tests=_test_rows(runs),
        baselines=_baseline_texts(runs),
        by_label=_by_label(runs),
        music_measures=ALL_MEASURES,
    )  # fmt: skip


def number(value: float | None) -> str:
    """Four significant digits; a dash for a missing value."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return text.replace("-", "−")


def rounded(value: float | None) -> str:
    """Two decimals; a dash for a missing value."""
    return "–" if value is None or math.isnan(value) else f"{value:.2f}"


def clock(seconds: float) -> str:
    """83 → 1:23."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def notes_table(notes: np.ndarray) -> list[list[int]]:
    """[start ms, length ms, pitch, velocity] rows for the page's player."""
    start = np.round(notes["start"] * 1000)
    length = np.round(notes["end"] * 1000) - start
    table = np.stack([start, length, notes["pitch"], notes["velocity"]], axis=1)
    return table.astype(int).tolist()


def piano_roll(piece: Audio) -> dict[str, Any]:
    """The values with which the template draws a piece.

    A view box of (seconds, semitones); for each shade one path with a stroke per note; the heights
    of all C's and the times of the ticks, both in percent; a description of the picture.
    """
    notes = piece.notes
    seconds = float(notes["end"].max(initial=1.0))
    low = int(notes["pitch"].min(initial=60)) - 2
    high = int(notes["pitch"].max(initial=72)) + 2
    height = high - low
    step = 1 if seconds <= 8 else 2 if seconds <= 16 else 5  # longer pieces are drawn wider
    description = f"{len(notes)} notes in {seconds:.0f} s"
    if len(notes):
        description += f", {pitch_name(low + 2)} to {pitch_name(high - 2)}"
    return {
        "seconds": seconds,
        "height": height,
        "paths": _strokes(notes, high),
        "octaves": [
            (pitch_name(p), high - p, 100 * (high - p) / height)
            for p in range(-(-low // 12) * 12, high + 1, 12)
        ],
        # The label of a time at the right edge would be cut off.
        "times": [(clock(t), 100 * t / seconds) for t in range(0, int(0.97 * seconds) + 1, step)],
        "description": description,
    }


def _strokes(notes: np.ndarray, high: int) -> list[str]:
    """For each shade an SVG path with a horizontal stroke per note, `high` at the top."""
    shade = notes["velocity"].astype(int) * SHADES // 128
    return [
        "".join(
            f"M{n['start']:.3f} {high - int(n['pitch'])}h{n['end'] - n['start']:.3f}"
            for n in notes[shade == k]
        )
        for k in range(SHADES)
    ]


def _rows(tables: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Any]]]:
    """Several tables as one with a column for each. Names are in the order of appearance."""
    names = dict.fromkeys(name for table in tables for name in table)
    return [(name, [table.get(name) for table in tables]) for name in names]


class Setting(NamedTuple):
    """A setting with its value in each run."""

    key: str
    label: str
    explanation: str
    values: list[str | None]


def _settings(runs: Sequence[Run]) -> list[Setting]:
    """The settings of a single run, or those whose values differ between the runs."""
    texts = {key: text for run in runs for key, text in run.setting_texts.items()}
    return [
        Setting(key, setting_label(key), texts.get(key, ""), values)
        for key, values in _rows([run.settings for run in runs])
        if len(runs) == 1 or len(set(values)) > 1
    ]


def _baseline_texts(runs: Sequence[Run]) -> list[str]:
    """One line on each kind of baseline in the test metrics."""
    names = dict.fromkeys(name for run in runs for name in run.test if "/" not in name)
    used = {baseline for _, _, baseline in with_baselines(names)}
    return [text for baseline, text in BASELINES.items() if baseline in used]


def breakable(name: str) -> Markup:
    """A long name or path that may be broken after its dots, slashes and underscores only."""
    return Markup(re.sub(r"(?<=[a-z])([._/]+)(?=[A-Za-z_])", r"\1<wbr>", str(escape(name))))


def _test_rows(runs: Sequence[Run]) -> list[tuple[str, str, str, list[float | None]]]:
    """(label of the metric, explanation, baseline or "", values), baselines after their metric.

    Metrics that only baselines have are last, with the metric in the baseline's label. Metrics per
    label are in another table.
    """
    metrics = dict(_rows([run.test for run in runs]))
    rows = []
    for name, metric, baseline in with_baselines(f for f in metrics if "/" not in f):
        baseline_label = BASELINE_NAMES.get(baseline, "")
        if baseline and metric not in metrics:
            baseline_label += f", {metric_label(metric)}"
        rows.append((metric_label(metric), explanation(metric), baseline_label, metrics[name]))
    return rows


class Labelled(NamedTuple):
    """The test metrics per label, of all runs that have them."""

    headings: list[str]
    """The headings of a run's columns."""
    rows: list[tuple[str, list[float | None]]]
    """(label, values), the columns of all runs."""


def _by_label(runs: Sequence[Run]) -> Labelled:
    """`bpc/Dutch` and `ngram_bpc/Dutch` → the columns of `bpc` and of its baseline."""
    names = [name.split("/", 1) for run in runs for name in run.test if "/" in name]
    labels = list(dict.fromkeys(label for _, label in names))
    columns = with_baselines(dict.fromkeys(metric for metric, _ in names))
    headings = [
        f"baseline {BASELINE_NAMES[baseline]}" if baseline else metric_label(metric)
        for _, metric, baseline in columns
    ]
    rows = []
    for label in labels:
        keys = [f"{name}/{label}" for name, _, _ in columns]
        rows.append((label, [run.test.get(k) for run in runs if run.labelled for k in keys]))
    return Labelled(headings, rows)
