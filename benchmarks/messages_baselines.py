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

from datamodules.midi_messages import MidiFolder
from musegen import build
from musegen.codecs.messages import FIELDS
from musegen.metrics.baselines import of_messages

COURSE = ["experiment=lstm_midi_course", "data.codec=null"]
"""The course's network and training, on the default codec."""


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

    found = of_messages(data)
    order = found["ngram_order"]
    rows: dict[str, dict[str, float]] = {}
    for name, row in (
        ("unigram", "unigram per field"),
        ("ngram", f"{order}-gram over the chained fields"),
    ):
        rows[row] = {k: found[f"{name}_{k}"] for k in ("nats", *FIELDS)}
    with tempfile.TemporaryDirectory() as scratch:
        for name, extra in (("course's network", COURSE), ("default model", [])):
            started = time.perf_counter()
            figures = network([*extra, *overrides], Path(scratch) / name.split("'")[0])
            rows[f"{name} ({time.perf_counter() - started:.0f} s)"] = figures

    print(f"\n| test nats per message | all | {' | '.join(FIELDS)} |\n|---|---|---|---|---|")
    for name, figures in rows.items():
        cells = " | ".join(f"{figures[k]:.3f}" for k in ("nats", *FIELDS))
        print(f"| {name} | {cells} |")


if __name__ == "__main__":
    main()
