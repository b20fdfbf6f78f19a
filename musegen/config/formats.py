"""The setting `formats`: the file types in which pieces of music are written."""

from __future__ import annotations

from typing import Any, Literal

from musegen.constraints import convert
from musegen.errors import UserError
from musegen.models import Model
from musegen.specs import LabelledMessages, Messages, Rolls

PieceFormat = Literal["mid", "wav", "png", "musicxml"]
"""MIDI, sound, a picture of the piano-roll, a score for score editors."""
DEFAULT_FORMATS: tuple[PieceFormat, ...] = ("mid", "wav", "png")
MUSIC = (Messages, LabelledMessages, Rolls)
"""The specs of models that generate pieces of music."""


def check_formats(formats: Any, model: type[Model], where: str) -> list[PieceFormat]:
    """The formats as given in the setting `where`.

    Raises `UserError` for an unknown format, and for a model whose samples are not music.
    """
    if not set(model.reads) & set(MUSIC):
        raise UserError(
            f"{where}={formats}: only pieces of music have a choice of formats, and "
            f"model={model.name} generates none; leave it out"
        )
    return list(convert(formats, list[PieceFormat], where))
