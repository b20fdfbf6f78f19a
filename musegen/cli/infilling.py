"""`musegen generate run=RUN infill=my.mid region=[8,16]`: part of a MIDI file, written again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from musegen.cli.usage import Section
from musegen.codecs.messages import MessageCodec
from musegen.codecs.meter import signature_of
from musegen.codecs.midi import read_notes, read_score
from musegen.codecs.midi_layout import MidiLayout, ticks_for, with_layout
from musegen.codecs.time_grid import TICKS
from musegen.config.signatures import parameters_of
from musegen.config.typed import read_typed
from musegen.config.validation import check_settings
from musegen.errors import UserError
from musegen.models import Model
from musegen.render.shown import Piece, Samples

GIVEN = ("notes", "start", "end")
"""The arguments of `infill` that come from the file and from `region`."""


def infill_file(
    model: Model, path: Path, region: tuple[float, float] | None, settings: dict[str, Any]
) -> Samples:
    """The samples of `model.infill` for the notes of a MIDI file; without a region, all of it.

    Where the model counts beats the file is read at its mean tempo, with its first time signature.
    Raises `UserError` for a model without `infill`, and as `read_notes` and `infill` do.
    """
    infill = getattr(model, "infill", None)
    if infill is None:
        raise UserError(f"infill={path}: {model.name} cannot rewrite a region of a piece")
    settings = check_settings(infill, read_typed(infill, settings), "generate", frozenset(GIVEN))
    if counts_beats(model):
        notes, first_bar, known = in_beats(model, path)
        accepted = parameters_of(infill)[0]
        settings = {k: v for k, v in known.items() if k in accepted} | settings
    else:
        notes, first_bar = read_notes(path, sustain=sustain(model)), 0.0
    if not len(notes):
        raise UserError(f"infill={path}: no notes in this file")
    start, end = region or (0.0, float(notes["end"].max()) + first_bar)
    pieces = infill(shifted(notes, -first_bar), start - first_bar, end - first_bar, **settings)
    return Samples(Piece.of(shifted(piece, first_bar)) for piece in pieces)


def infill_section(model: type[Model]) -> list[Section]:
    """The section of `musegen generate --help` about a model's `infill`, if it has one."""
    infill = getattr(model, "infill", None)
    if infill is None:
        return []
    return [Section(f"settings of {model.name} with infill=", infill, without=GIVEN)]


def counts_beats(model: Model) -> bool:
    codec = model.codec
    return codec.in_beats if isinstance(codec, MessageCodec) else codec.seconds_per_beat is not None


def sustain(model: Model) -> bool:
    """Whether notes last under the pedal, as in the training data."""
    return isinstance(model.codec, MessageCodec) and model.codec.sustain


def in_beats(model: Model, path: Path) -> tuple[np.ndarray, float, dict[str, Any]]:
    """The notes of a file in seconds at its mean tempo, where its first bar starts (0 or before),
    and its tempo and time signature as settings of `infill`."""
    score = read_score(path, sustain=sustain(model))
    seconds = score.seconds_per_beat
    signature = signature_of(round(float(score.bars["length"][0]) * TICKS))
    notes = score.notes
    for column in ("start", "end"):
        notes[column] *= seconds
    layout = MidiLayout(seconds, ticks_for(TICKS), signature)
    first_bar = float(score.bars["origin"][0]) * seconds
    known = {"tempo": 60 / seconds, "time_signature": signature}
    return with_layout(notes, layout), first_bar, known


def shifted(notes: np.ndarray, seconds: float) -> np.ndarray:
    """The notes so many seconds later."""
    if seconds:
        notes = notes.copy()
        for column in ("start", "end"):
            notes[column] += seconds
    return notes
