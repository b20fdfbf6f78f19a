"""Notes → audio by a SoundFont (.sf2, .sf3), played by tinysoundfont."""

from __future__ import annotations

import numpy as np

from musegen.codecs.midi_layout import layout_of
from musegen.config.sound import SoundFont
from musegen.errors import UserError
from musegen.render.waveform import RATE, fade

TAIL = 1.0
"""Seconds after the last note, in which its release ends."""


def play(notes: np.ndarray, font: SoundFont) -> np.ndarray:
    """`NOTES` → mono float32 at `RATE`, the mean of both channels.

    If the font's program is not given, it is that of the piece (`MidiLayout.program`), or grand
    piano if the font does not have it. Raises `UserError` for a file that cannot be read, or that
    does not have the given program.
    """
    import tinysoundfont  # an optional extra

    synth = tinysoundfont.Synth(samplerate=RATE)
    try:
        number = synth.sfload(str(font.file))
    except RuntimeError as e:
        raise UserError(f"sound={font.file}: damaged; the file cannot be played") from e
    given = font.program is not None
    for program in (font.program,) if given else (layout_of(notes).program, 0):
        try:
            synth.program_select(0, number, 0, program)
            break
        except RuntimeError:
            continue
    else:
        raise UserError(f"sound={font.file}: there is no program {program} in it")
    # A repeated pitch ends before it starts again.
    events = [(end, 0, pitch, 0) for _, end, pitch, _ in notes.tolist()]
    events += [(start, 1, pitch, velocity) for start, _, pitch, velocity in notes.tolist()]
    blocks, played = [], 0
    for seconds, is_start, pitch, velocity in sorted(events):
        if (missing := int(seconds * RATE) - played) > 0:
            blocks.append(_block(synth, missing))
            played += missing
        if is_start:
            synth.noteon(0, pitch, velocity)
        else:
            synth.noteoff(0, pitch)
    last = _block(synth, int(TAIL * RATE))
    return np.concatenate([*blocks, last * fade(len(last))[::-1].astype(np.float32)])


def _block(synth: object, length: int) -> np.ndarray:
    """The next samples, the mean of both channels."""
    stereo = np.frombuffer(bytes(synth.generate(length)), np.float32)  # type: ignore[attr-defined]
    return stereo.reshape(-1, 2).mean(axis=1)
