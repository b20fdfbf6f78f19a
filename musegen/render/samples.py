"""Write a model's samples into files: MIDI, audio, pictures, text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musegen.codecs.midi import write_notes
from musegen.metrics.music import degenerate
from musegen.render.audio import synthesise
from musegen.render.plots import piano_roll
from musegen.render.tiles import write_tiles
from musegen.render.waveform import write_wave
from musegen.runtime.atomic import write_text
from musegen.specs import Frames, LabelledTokens, Messages, Rolls, Spec, Tokens

MAX_PRINTED = 100
"""Up to so many texts are also printed."""


def write_pieces(pieces: Sequence[np.ndarray], folder: Path, sound: str = "piano") -> list[Path]:
    """Write each piece as .mid, .wav and .png into the folder. Returns their paths.

    `sound` is as in `musegen.render.audio.synthesise`.

    A degenerate piece (`musegen.metrics.music.degenerate`) is written as well, and a line is
    printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, notes in enumerate(pieces):
        stem = folder / f"{i:02d}"
        write_notes(notes, stem.with_suffix(".mid"))
        write_wave(synthesise(notes, sound), stem.with_suffix(".wav"))
        piano_roll(notes, stem.with_suffix(".png"), title=stem.name)
        if problem := degenerate(notes):
            print(f"{stem.with_suffix('.mid')} is degenerate: {problem}")
        paths += [stem.with_suffix(suffix) for suffix in (".mid", ".wav", ".png")]
    return paths


def write_sheet(rows: Sequence[np.ndarray], folder: Path) -> list[Path]:
    """Write frames in [0, 1] as one tile image, with each (n, D) array in a row of its own."""
    return [write_tiles(rows, folder / "sheet.png")]


def write_texts(texts: Sequence[str | tuple[str, str]], folder: Path) -> list[Path]:
    """Write texts into samples.txt, one per line; (label, text) pairs are separated by a tab.

    If a text has several lines, each text is written into a file of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = _lines(texts)
    files = {"samples.txt": "\n".join(lines)}
    if any("\n" in line for line in lines):
        files = {f"{i:02d}.txt": line for i, line in enumerate(lines)}
    for name, text in files.items():
        write_text(folder / name, text + "\n")
    return [folder / name for name in files]


def one_per_sample(files: Sequence[Path]) -> list[Path]:
    """One file of each sample. Of a piece it is the MIDI file."""
    return list({path.stem: path for path in reversed(files)}.values())[::-1]


def text_rows(spec: Spec, samples: Sequence[Any]) -> list[tuple[str, ...]]:
    """Samples as rows of a table of strings; none if they are not texts."""
    if not isinstance(spec, (Tokens, LabelledTokens)):
        return []
    return [(text,) if isinstance(text, str) else text for text in samples]


def _lines(texts: Sequence[str | tuple[str, str]]) -> list[str]:
    return [t if isinstance(t, str) else "\t".join(t) for t in texts]


def write_files(
    spec: Spec, samples: Sequence[Any], folder: Path, sound: str = "piano"
) -> list[Path]:
    """Write samples of a model in the file types of its spec. Returns the paths."""
    if isinstance(spec, (Messages, Rolls)):
        return write_pieces(samples, folder, sound)
    write = write_sheet if isinstance(spec, Frames) else write_texts
    return write(samples, folder)


def write_samples(
    spec: Spec, samples: Sequence[Any], folder: Path, sound: str = "piano"
) -> list[Path]:
    """`write_files`; up to `MAX_PRINTED` texts are printed as well."""
    if isinstance(spec, (Tokens, LabelledTokens)) and len(samples) <= MAX_PRINTED:
        print(*_lines(samples), sep="\n")
    return write_files(spec, samples, folder, sound)
