"""A model's samples → files a person can open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musegen.codecs.midi import write_notes
from musegen.metrics.music import degenerate
from musegen.render.audio import synthesise, write_wave
from musegen.render.plots import piano_roll
from musegen.render.tiles import write_tiles
from musegen.runtime.atomic import write_text
from musegen.specs import Frames, LabelledTokens, Messages, Rolls, Spec, Tokens

SCREEN = 100
"""Lines that a person may want to see without opening a file."""


def write_pieces(pieces: Sequence[np.ndarray], folder: Path) -> list[Path]:
    """Write each piece as .mid, .wav and .png into the folder; returns their paths.

    A piece that degenerated (silence, one note for ever) is written all the same and reported.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, notes in enumerate(pieces):
        stem = folder / f"{i:02d}"
        write_notes(notes, stem.with_suffix(".mid"))
        write_wave(synthesise(notes), stem.with_suffix(".wav"))
        piano_roll(notes, stem.with_suffix(".png"), title=stem.name)
        if problem := degenerate(notes):
            print(f"{stem.with_suffix('.mid')} degenerated: {problem}")
        paths += [stem.with_suffix(suffix) for suffix in (".mid", ".wav", ".png")]
    return paths


def write_sheet(rows: Sequence[np.ndarray], folder: Path) -> list[Path]:
    """Write rows of frames, each (n, D) in [0, 1], as one tile image."""
    return [write_tiles(rows, folder / "sheet.png")]


def write_texts(texts: Sequence[str | tuple[str, str]], folder: Path) -> list[Path]:
    """Write texts into samples.txt, one a line and (label, text) pairs with a tab between them.

    Texts of several lines have a file each.
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
    """Of the files that were written one of each sample: the score of a piece."""
    return list({path.stem: path for path in reversed(files)}.values())[::-1]


def text_rows(spec: Spec, samples: Sequence[Any]) -> list[tuple[str, ...]]:
    """Samples as rows of a table of strings; none where they are no strings."""
    if not isinstance(spec, (Tokens, LabelledTokens)):
        return []
    return [(text,) if isinstance(text, str) else text for text in samples]


def _lines(texts: Sequence[str | tuple[str, str]]) -> list[str]:
    return [t if isinstance(t, str) else "\t".join(t) for t in texts]


WRITERS: dict[type[Spec], Callable[[Sequence[Any], Path], list[Path]]] = {
    Frames: write_sheet,
    Messages: write_pieces,
    Rolls: write_pieces,
    Tokens: write_texts,
    LabelledTokens: write_texts,
}


def write_samples(spec: Spec, samples: Sequence[Any], folder: Path) -> list[Path]:
    """Write what a model of this spec generated in the forms that suit it; returns the files.

    Texts that fit on one screen are printed as well.
    """
    if isinstance(spec, (Tokens, LabelledTokens)) and len(samples) <= SCREEN:
        print(*_lines(samples), sep="\n")
    return WRITERS[type(spec)](samples, folder)
