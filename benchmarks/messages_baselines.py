"""Nats per message on held-out pieces: unigram, n-gram, the course's network, the default model.

    python benchmarks/messages_baselines.py                      # data=mozart
    python benchmarks/messages_baselines.py data=midi_folder data.root=DIR

All four predict the same classes of the same pieces. The two networks are read from runs given
as course=<run folder> and default=<run folder>, or trained by this script (minutes).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from datamodules.midi_messages import MidiFolder
from musegen import build
from musegen.codecs.messages import FIELDS
from musegen.metrics.ngram import NGram, best_ngram

COURSE = ["experiment=lstm_midi_course", "data.codec=null"]
"""The course's network and training, on the default codec."""


def flat(data: MidiFolder, split: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Pieces as one row of field classes each (fields told apart), and the choices at each."""
    sizes = np.array(data.spec.sizes)
    offsets = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    coded = [data.codec.encode(p.stream) for p in data.pieces[split]]
    return [(c + offsets).ravel() for c in coded], [np.tile(sizes, len(c)) for c in coded]


def per_field(model: NGram, order: int, pieces: list, choices: list) -> dict[str, float]:
    """Mean nats per message, in all and by field."""
    nats = np.concatenate(
        [model.nats(p, c)[order - 1] for p, c in zip(pieces, choices, strict=True)]
    ).reshape(-1, len(FIELDS))
    fields = dict(zip(FIELDS, nats.mean(0).tolist(), strict=True))
    return {"nats": sum(fields.values()), **fields}


def network(overrides: list[str], folder: Path) -> dict[str, float]:
    """Train as a user would, in a process of its own; the test figures of its best checkpoint."""
    command = [sys.executable, "train.py", *overrides, f"hydra.run.dir={folder}", "sample=null"]
    subprocess.run(command, check=True)
    return json.loads((folder / "test.json").read_text())


def main() -> None:
    overrides = sys.argv[1:]
    settings = build.completed(build.composed([*overrides, "run_dir=unused"]))
    data: MidiFolder = build.build_data(settings)
    data.setup()
    print(data.describe())

    train, _ = flat(data, "train")
    val, val_choices = flat(data, "val")
    test, test_choices = flat(data, "test")
    rows: dict[str, dict[str, float]] = {}
    by_field = [unigram_of(train, test, f, data.spec.sizes) for f in range(len(FIELDS))]
    rows["unigram per field"] = {"nats": sum(by_field), **dict(zip(FIELDS, by_field, strict=True))}
    ngram, order = best_ngram(train, val, val_choices, max_order=10, period=len(FIELDS))
    rows[f"{order}-gram over the chained fields"] = per_field(ngram, order, test, test_choices)
    with tempfile.TemporaryDirectory() as scratch:
        for name, extra in (("course's network", COURSE), ("default model", [])):
            started = time.perf_counter()
            figures = network([*extra, *overrides], Path(scratch) / name.split("'")[0])
            rows[f"{name} ({time.perf_counter() - started:.0f} s)"] = figures

    print(f"\n| test nats per message | all | {' | '.join(FIELDS)} |\n|---|---|---|---|---|")
    for name, figures in rows.items():
        cells = " | ".join(f"{figures[k]:.3f}" for k in ("nats", *FIELDS))
        print(f"| {name} | {cells} |")


def unigram_of(train: list, test: list, field: int, sizes: tuple[int, ...]) -> float:
    """Nats per symbol of one field under its own frequencies."""
    n = len(FIELDS)
    model = NGram(1, 0.5).fit(s[field::n] for s in train)
    nats = [model.nats(s[field::n], [sizes[field]] * len(s[field::n]))[0] for s in test]
    return float(np.concatenate(nats).mean())


if __name__ == "__main__":
    main()
