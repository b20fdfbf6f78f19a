"""Write a model's samples into files: MIDI, audio, pictures, text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musegen.codecs.midi import write_notes
from musegen.config.formats import DEFAULT_FORMATS, PieceFormat
from musegen.metrics.music import degenerate
from musegen.render.audio import synthesise
from musegen.render.notation import write_musicxml
from musegen.render.plots import piano_roll
from musegen.render.tiles import write_tiles
from musegen.render.waveform import write_wave
from musegen.runtime.atomic import write_text
from musegen.specs import (
    Frames,
    LabelledMessages,
    LabelledTokens,
    Messages,
    Rolls,
    Spec,
    Tokens,
)

MAX_PRINTED = 100
"""Up to so many texts are also printed."""


def write_pieces(
    pieces: Sequence[np.ndarray | tuple[str, np.ndarray]],
    folder: Path,
    formats: Sequence[PieceFormat] = DEFAULT_FORMATS,
    sound: str = "piano",
) -> list[Path]:
    """Write each piece in these formats into the folder. Returns their paths.

    The MIDI file is always written: the report and the metrics of music read it. The file names
    of (label, piece) pairs have the label. `sound` is as in `musegen.render.audio.synthesise`. A
    degenerate piece (`musegen.metrics.music.degenerate`) is written as well, and a line is printed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, piece in enumerate(pieces):
        label, notes = piece if isinstance(piece, tuple) else ("", piece)
        safe = re.sub(r"[^\w-]", "_", label)  # a label from a checkpoint may have any characters
        stem = "_".join(filter(None, (f"{i:02d}", safe)))
        files = {suffix: folder / f"{stem}.{suffix}" for suffix in ("mid", *formats)}
        for suffix, path in files.items():
            if suffix == "mid":
                write_notes(notes, path)
            elif suffix == "wav":
                write_wave(synthesise(notes, sound), path)
            elif suffix == "png":
                piano_roll(notes, path, title=stem)
            elif len(notes):  # music21 makes no score without notes
                write_musicxml(files["mid"], path)
        if problem := degenerate(notes):
            print(f"{files['mid']} is degenerate: {problem}")
        paths += [path for path in files.values() if path.exists()]
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
    spec: Spec,
    samples: Sequence[Any],
    folder: Path,
    formats: Sequence[PieceFormat] | None = None,
    sound: str = "piano",
) -> list[Path]:
    """Write samples of a model in the file types of its spec. Returns the paths.

    `formats` are those of pieces of music (`check_formats`); `sound` is as in
    `musegen.render.audio.synthesise`.
    """
    if isinstance(spec, (Messages, LabelledMessages, Rolls)):
        given = DEFAULT_FORMATS if formats is None else formats
        return write_pieces(samples, folder, given, sound)
    write = write_sheet if isinstance(spec, Frames) else write_texts
    return write(samples, folder)


def write_samples(
    spec: Spec,
    samples: Sequence[Any],
    folder: Path,
    formats: Sequence[PieceFormat] | None = None,
    sound: str = "piano",
) -> list[Path]:
    """`write_files`; up to `MAX_PRINTED` texts are printed as well."""
    if isinstance(spec, (Tokens, LabelledTokens)) and len(samples) <= MAX_PRINTED:
        print(*_lines(samples), sep="\n")
    return write_files(spec, samples, folder, formats, sound)
