"""The learning curves of runs: one panel per metric, with training and validation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from markupsafe import Markup

from musegen.render.charts import Series, line_chart
from musegen.render.metric_labels import explanation, metric_label

COLOURS = 6
"""The number of different colours for runs."""
STAGES = {
    "train": "training",
    "val": "validation",
    "rbm": "pretraining of the RBM",
    "rnn": "pretraining of the recurrent network",
}

Points = Sequence[tuple[float, float]]


class HasHistory(Protocol):
    """What a run has to tell about its training."""

    @property
    def name(self) -> str: ...
    @property
    def monitor(self) -> str: ...
    @property
    def loss_metric(self) -> tuple[int, str] | None: ...
    @property
    def history(self) -> Mapping[str, Points]: ...


class Panel(NamedTuple):
    """One metric. `chart` is empty if no line has two points; `values` are then the only ones."""

    label: str
    explanation: str
    chart: Markup
    series: list[Series]
    values: list[str]


def panels(runs: Sequence[HasHistory]) -> list[Panel]:
    """A panel per metric, the monitored metric first.

    The curves of each label of the data, such as `val/nll/mozart`, are in the panel of the metric.
    """
    by_metric: dict[str, list[Series]] = {}
    for i, run in enumerate(runs):
        labels: list[str] = []
        for stage, name, points in _curves(run):
            metric, _, data_label = name.partition("/")
            if data_label and data_label not in labels:
                labels.append(data_label)
            text = [run.name] if len(runs) > 1 else []
            text += [STAGES.get(stage, stage), *([data_label] if data_label else [])]
            colour = i + (1 + labels.index(data_label) if data_label else 0)
            series = Series(", ".join(text), points, colour % COLOURS, stage == "train")
            by_metric.setdefault(metric, []).append(series)
    monitored = {run.monitor.partition("/")[2] for run in runs}
    order = sorted(by_metric, key=lambda metric: metric not in monitored)
    return [_panel(metric, by_metric[metric]) for metric in order]


def _curves(run: HasHistory) -> Iterator[tuple[str, str, Points]]:
    """(stage, metric, points) of each curve.

    The training loss is drawn beside the validation metric that it is, e.g. −log p.
    """
    for name, points in run.history.items():
        stage, _, metric = name.partition("/")
        if name == "train/loss" and run.loss_metric is not None:
            sign, same = run.loss_metric
            if f"val/{same}" in run.history and f"train/{same}" not in run.history:
                yield stage, same, [(epoch, sign * value) for epoch, value in points]
                continue
        yield stage, metric or name, points


def _panel(metric: str, series: list[Series]) -> Panel:
    finite = [[p for p in s.points if math.isfinite(p[1])] for s in series]
    label, text = metric_label(metric), explanation(metric)
    if max(map(len, finite)) > 1:
        return Panel(label, text, line_chart(label, series), series, [])
    values = [
        f"{s.name} {value:.4g} in epoch {epoch:g}".replace("-", "−")
        for s, points in zip(series, finite, strict=True)
        for epoch, value in points
    ]
    return Panel(label, text, Markup(""), series, values)
