"""The setting `sound`: how generated music sounds."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any, NamedTuple

from musegen.errors import UserError

INSTRUMENTS = ("piano", "additive")
"""The recorded piano, and additive synthesis. Any other sound is a SoundFont file."""
SOUND_FONT = re.compile(r"(?P<file>.+\.sf[23])(?::(?P<program>\d+))?", re.IGNORECASE | re.DOTALL)


class SoundFont(NamedTuple):
    """A SoundFont file, and one of its programs (General MIDI, 0 to 127).

    Without a program each piece is played with its own.
    """

    file: Path
    program: int | None


def check_sound(value: Any) -> str:
    """The setting with an absolute path, if it is one.

    Raises `UserError` for what is neither an instrument nor `FILE.sf2`, `FILE.sf3` or
    `FILE.sf2:PROGRAM`, for a missing file, and if the package that plays it is not installed.
    """
    text = str(value)
    if text in INSTRUMENTS:
        return text
    found = SOUND_FONT.fullmatch(text)
    if not found or int(found["program"] or 0) > 127:
        raise UserError(
            f"sound={text}: should be piano, additive, FILE.sf2, FILE.sf3, or FILE.sf2:PROGRAM "
            "with a program from 0 to 127"
        )
    file = Path(found["file"]).expanduser().absolute()
    if not file.is_file():
        raise UserError(f"sound={text}: no such file")
    with file.open("rb") as font:
        if (head := font.read(12))[:4] != b"RIFF" or head[8:] != b"sfbk":
            raise UserError(f"sound={text}: not a SoundFont file")
    if importlib.util.find_spec("tinysoundfont") is None:
        raise UserError(
            f"sound={text}: tinysoundfont is not installed; "
            "pip install --no-deps tinysoundfont (it needs its PyAudio only to play aloud)"
        )
    return f"{file}:{found['program']}" if found["program"] else str(file)


def sound_font(sound: str) -> SoundFont | None:
    """The file and the program of a checked sound; None for an instrument."""
    if sound in INSTRUMENTS:
        return None
    found = SOUND_FONT.fullmatch(sound)
    assert found is not None
    program = found["program"]
    return SoundFont(Path(found["file"]), None if program is None else int(program))
