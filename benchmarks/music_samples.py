"""For the benchmarks of music: the pieces of a run or of a folder, and the data beside them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from musegen.cli.evaluate import run_data, run_settings
from musegen.codecs.midi import read_notes, write_notes
from musegen.config.instantiation import build_data
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.errors import PairingError, UserError
from musegen.models import load_model
from musegen.training.checkpoint_files import find_checkpoint

MODELS = ("rnn_rbm", "lstm_midi")
"""Models that read piano-rolls and messages: data are built with the one that reads them."""


class Music(NamedTuple):
    """Samples by seed, and the data that they are compared with."""

    samples: dict[str, list[np.ndarray]]
    data: Any


def music_of(arguments: dict[str, str]) -> Music:
    """The samples that the arguments of a benchmark name, and their data. It uses up the arguments.

    - run=RUN: a run folder or checkpoint. Generates n=64 pieces of `length` with the settings of
      the run's `sample`, changed by other arguments, for seeds=1 seeds from seed=0.
    - folder=DIR data=NAME: the .mid files, or the .npy piano-rolls, (T, P) of 0 and 1, of a folder.
    - out=DIR: where generated pieces are written, and read from again by the same call.
    - data=NAME, data.NAME=value: other data than the run's.
    """
    overrides = [f"{k}={arguments.pop(k)}" for k in list(arguments) if k.split(".")[0] == "data"]
    if "folder" in arguments:
        folder = Path(arguments.pop("folder"))
        if unknown := arguments.keys() - {"out"}:
            raise UserError(f"{', '.join(unknown)}: not with folder=DIR, whose pieces are given")
        data = build(overrides)
        return Music({folder.name: read_folder(folder, data)}, data)
    if "run" not in arguments or "out" not in arguments:
        raise UserError("which pieces? run=RUN out=DIR, or folder=DIR data=NAME")
    checkpoint = find_checkpoint(Path(arguments.pop("run")).expanduser())
    model = load_model(checkpoint)
    settings = run_settings(checkpoint, model, overrides)
    data = run_data(settings, checkpoint, model)
    out = Path(arguments.pop("out"))
    first, count = int(arguments.pop("seed", 0)), int(arguments.pop("seeds", 1))
    typed = {"n": "64"} | arguments
    arguments.clear()
    given = (settings.get("sample") or {}) | read_typed(model.generate, typed)
    checked = check_settings(model.generate, given, "generate")
    samples = {}
    for seed in range(first, first + count):
        folder = out / f"seed_{seed}"
        if not folder.exists():
            started = time.perf_counter()
            pieces = model.generate(**checked | {"seed": seed})
            print(f"generated {len(pieces)} pieces in {time.perf_counter() - started:.0f} s")
            folder.mkdir(parents=True)
            for i, notes in enumerate(pieces):
                write_notes(notes, folder / f"{i:03d}.mid")
        samples[folder.name] = read_folder(folder, data)
    return Music(samples, data)


def read_folder(folder: Path, data: Any) -> list[np.ndarray]:
    """The pieces of a folder of .mid files and .npy piano-rolls as `NOTES`."""
    paths = sorted(p for p in folder.glob("*") if p.suffix in (".mid", ".npy"))
    if not paths:
        raise UserError(f"folder={folder}: no .mid and no .npy file")
    return [read_piece(path, data) for path in paths]


def read_piece(path: Path, data: Any) -> np.ndarray:
    """A .mid or .npy file as `NOTES`; if the data are piano-rolls, on their frames."""
    if path.suffix == ".npy":
        return data.rolls_codec.decode(np.load(path))
    notes = read_notes(path)
    return notes if data.frame is None else data.rolls_codec.decode(data.rolls_codec.encode(notes))


def build(overrides: list[str]) -> Any:
    """The data that the overrides name, after `setup`."""
    for model in MODELS:
        try:
            settings = resolve_config(
                compose_config([*overrides, f"model={model}", "run_dir=unused"])
            )
            break
        except PairingError:
            if model == MODELS[-1]:
                raise
    data = build_data(settings)
    data.prepare_data()
    data.setup()
    return data
