"""Samples that show themselves in Jupyter, and that are saved by the ending of a file's name."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from musegen.codecs.midi import NOTES, write_notes
from musegen.codecs.midi_layout import LaidOutNotes, layout_of
from musegen.errors import UserError
from musegen.specs import Messages, Rolls, Spec

NOTE_NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


class Piece(LaidOutNotes):
    """A piece of music: an array of notes that plays and draws itself in Jupyter.

        piece = model.generate()[0]
        piece.save("tune.mid")      # also .wav, .png and .musicxml
        piece["pitch"]              # a column: start and end in seconds, pitch, velocity

    It is a `NOTES` array (`musegen.codecs.midi`); a column of it is a plain array.
    """

    @classmethod
    def of(cls, notes: np.ndarray) -> Piece:
        """The piece of these notes, without a copy."""
        piece = np.asarray(notes, NOTES).view(cls)
        piece.layout = layout_of(notes)
        return piece

    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        is_column = isinstance(found, Piece) and found.dtype != NOTES
        return found.view(np.ndarray) if is_column else found

    @property
    def seconds(self) -> float:
        """The end of the last note."""
        return float(self["end"].max(initial=0.0))

    def save(self, path: str | Path) -> Path:
        """Write the piece as .mid, .wav, .png or .musicxml, by the ending of the name.

        Raises `UserError` for another ending, and for .musicxml without music21.
        """
        path = Path(path).expanduser()
        if path.suffix.lower() not in SAVERS:
            raise UserError(f"{path}: the name should end with {', '.join(SAVERS)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        SAVERS[path.suffix.lower()](self.view(LaidOutNotes), path)
        return path

    def __repr__(self) -> str:
        if self.dtype != NOTES or self.ndim != 1:
            return repr(self.view(np.ndarray))
        if not len(self):
            return "Piece(no notes)"
        low, high = (pitch_name(int(p)) for p in (self["pitch"].min(), self["pitch"].max()))
        return f"Piece({len(self)} notes in {self.seconds:.1f} s, {low} to {high})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """The piano-roll and a player, in one element that needs no other file."""
        picture = f'<img src="{_data_url(self, ".png", "image/png")}" style="max-width:100%">'
        player = f'<audio controls src="{_data_url(self, ".wav", "audio/wav")}"></audio>'
        return f"<figure>{picture}<br>{player}<br>{html.escape(repr(self))}</figure>"


class Samples(list[Any]):
    """A list of samples that shows itself in Jupyter: pieces, texts, or frames as pictures."""

    def _repr_html_(self) -> str:
        if self and isinstance(self[0], np.ndarray) and not isinstance(self[0], Piece):
            return f'<img src="{_tiles(self)}" style="image-rendering:pixelated">'
        return "\n".join(
            sample._repr_html_() if isinstance(sample, Piece) else f"<pre>{_text(sample)}</pre>"
            for sample in self
        )


def as_samples(spec: Spec, samples: Iterable[Any]) -> Samples:
    """What a model's `generate` returned, with music as `Piece`s."""
    if isinstance(spec, (Rolls, Messages)):
        return Samples(Piece.of(s) if getattr(s, "dtype", None) == NOTES else s for s in samples)
    return Samples(samples)


def pitch_name(pitch: int) -> str:
    """MIDI 60 → C4."""
    return f"{NOTE_NAMES[pitch % 12]}{pitch // 12 - 1}"


def _text(sample: Any) -> str:
    return html.escape("\t".join(sample) if isinstance(sample, tuple) else str(sample))


def _data_url(piece: Piece, suffix: str, media_type: str) -> str:
    with TemporaryDirectory() as folder:
        content = piece.save(Path(folder) / f"piece{suffix}").read_bytes()
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _tiles(rows: list[np.ndarray]) -> str:
    from musegen.render.tiles import write_tiles

    with TemporaryDirectory() as folder:
        content = write_tiles(rows, Path(folder) / "rows.png").read_bytes()
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _save_wave(notes: np.ndarray, path: Path) -> None:
    from musegen.render.audio import synthesise
    from musegen.render.waveform import write_wave

    write_wave(synthesise(notes), path)


def _save_picture(notes: np.ndarray, path: Path) -> None:
    from musegen.render.plots import piano_roll

    piano_roll(notes, path)


def _save_score(notes: np.ndarray, path: Path) -> None:
    from musegen.render.notation import write_musicxml

    if not len(notes):
        raise UserError(f"{path}: a piece without notes has no score")
    with TemporaryDirectory() as folder:
        midi = Path(folder) / "piece.mid"
        write_notes(notes, midi)
        write_musicxml(midi, path)


SAVERS: dict[str, Callable[[np.ndarray, Path], None]] = {
    ".mid": write_notes,
    ".wav": _save_wave,
    ".png": _save_picture,
    ".musicxml": _save_score,
}
"""How a piece is written, by the ending of the file's name."""
