"""Nats per message on held-out pieces: unigram, n-gram, the course's network, the default model.

    python benchmarks/messages_baselines.py                      # data=mozart
    python benchmarks/messages_baselines.py data=midi_folder data.root=DIR

All four predict the same classes of the same pieces. This script trains the two networks, which
takes minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from datamodules.message_streams import MidiFolder
from musegen.baselines.by_spec import message_baselines
from musegen.codecs.messages import FIELDS
from musegen.config.instantiation import build_data
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config

COURSE = "experiment=lstm_midi_course"
"""The course's network and training; here with the codec of the data."""


def network(overrides: list[str], folder: Path) -> dict[str, float]:
    """Train with train.py in another process. Returns the test metrics of the best checkpoint."""
    command = [sys.executable, "train.py", *overrides, f"hydra.run.dir={folder}", "sample=null"]
    subprocess.run(command, check=True)
    return json.loads((folder / "test.json").read_text())


def main() -> None:
    overrides = sys.argv[1:]
    settings = resolve_config(compose_config([*overrides, "run_dir=unused"]))
    data: MidiFolder = build_data(settings)
    data.setup()
    print(data.describe())

    baselines = message_baselines(data)
    order = baselines["ngram_order"]
    rows: dict[str, dict[str, float]] = {}
    for name, row in (
        ("unigram", "unigram per field"),
        ("ngram", f"{order}-gram over the chained fields"),
    ):
        rows[row] = {k: baselines[f"{name}_{k}"] for k in ("nll", *FIELDS)}
    with tempfile.TemporaryDirectory() as scratch:
        codec = [f"data.codec.{name}={value}" for name, value in data.codec.to_dict().items()]
        for name, extra in (("course's network", [COURSE, *codec]), ("default model", [])):
            started = time.perf_counter()
            metrics = network([*extra, *overrides], Path(scratch) / name.split("'")[0])
            rows[f"{name} ({time.perf_counter() - started:.0f} s)"] = metrics

    print(f"\n| test NLL (nats per message) | all | {' | '.join(FIELDS)} |\n|---|---|---|---|---|")
    for name, metrics in rows.items():
        cells = " | ".join(f"{metrics[k]:.3f}" for k in ("nll", *FIELDS))
        print(f"| {name} | {cells} |")


if __name__ == "__main__":
    main()
