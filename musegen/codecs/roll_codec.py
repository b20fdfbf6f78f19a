"""Notes in seconds ↔ binary piano-rolls: one row per frame, one column per pitch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Interval

from musegen.codecs.midi import NOTES, read_notes, read_prime
from musegen.codecs.midi_layout import MidiLayout, ticks_for, with_layout
from musegen.codecs.tonality import is_minor, semitones_to_c, transposed
from musegen.constraints import PositiveInt, check_fields
from musegen.errors import UserError
from musegen.specs import Rolls

MAX_FRAMES = 200_000
"""More than sixteen hours at 0.3 s. The limit prevents that a tiny dt or a wrong delta time in a
file fills the memory."""
VELOCITY = 80
"""The velocity of decoded notes, since a roll has no velocities."""


@dataclass(frozen=True)
class RollCodec:
    """`NOTES` ↔ (T, P) uint8 rolls of 0 and 1, column 0 = MIDI pitch `pitch_range[0]`.

    - pitch_range: pitches `pitch_range[0]` to `pitch_range[1] - 1`. Others are left out.
    - dt: seconds per frame. Frame k contains the pitches that sound at its middle,
      start ≤ (k + ½)·dt < end, so that notes on a grid of dt may be half a frame early or late.
      The tutorial samples at k·dt, where one tick can change the frame. The roll ends with its
      last note.
    - repeats: a pitch in successive frames becomes one long note (`sustain`) or one note per frame
      (`retrigger`).
    - frames_per_beat, common_key: what was done to MIDI files before `encode`. Their tempo was
      set so that a quarter note takes so many frames; they were transposed so that their tonic is
      C. `read` does the same to one file, such as the prime of a generation.
    - hold_limits: the number of frames that nearly all notes, and nearly all chords, of the
      training set are held at most. A model records them when it is trained.

    `decode` takes any roll. `encode(decode(x))` equals x without silent frames at its end. Raises
    `UserError` for settings out of range.
    """

    pitch_range: tuple[int, int] = (21, 109)
    dt: Annotated[float, Interval(ge=0.01, le=60)] = 0.3
    repeats: Literal["sustain", "retrigger"] = "sustain"
    frames_per_beat: PositiveInt | None = None
    common_key: bool = False
    hold_limits: tuple[PositiveInt, PositiveInt] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        low, high = self.pitch_range
        if not 0 <= low < high <= 128:
            raise UserError(f"pitch_range={[low, high]}: should satisfy 0 ≤ low < high ≤ 128")

    @property
    def spec(self) -> Rolls:
        """The number of pitches."""
        low, high = self.pitch_range
        return Rolls(high - low)

    def to_dict(self) -> dict[str, Any]:
        """Plain settings for a checkpoint; `RollCodec(**plain)` is the inverse."""
        return {**asdict(self), "pitch_range": list(self.pitch_range)}

    @property
    def seconds_per_beat(self) -> float | None:
        """How long a quarter note lasts on this grid; None where files keep their own tempo."""
        return None if self.frames_per_beat is None else self.frames_per_beat * self.dt

    def read(self, path: str | Path, seconds: float | None = None) -> np.ndarray:
        """The roll of a MIDI file, or of its first `seconds`, as the training data were read.

        Raises `UserError` as `read_prime` and `encode` do.
        """
        how: dict[str, Any] = {"seconds_per_beat": self.seconds_per_beat, "overlapping": True}
        notes = read_prime(path, seconds, **how)
        if not self.common_key:
            return self.encode(notes)
        # The key of the whole piece is known better than that of its first seconds.
        whole = notes if seconds is None else read_notes(path, **how)
        return self.encode(transposed(notes, semitones_to_c(whole)))

    def prime_frames(self, prime: Path | None, seconds: float | None) -> np.ndarray:
        """The frames of a prime, (T, P) float32 of 0 and 1; no frames if `prime` is None.

        Raises `UserError` as `read` does, and for a prime without notes in the pitch range.
        """
        if prime is None:
            return np.zeros((0, self.spec.pitches), np.float32)
        prime_TP = self.read(prime, seconds).astype(np.float32)
        if not len(prime_TP):
            raise UserError(f"prime={prime}: no notes within the model's pitch range")
        return prime_TP

    def encode(self, notes: np.ndarray) -> np.ndarray:
        """`NOTES`, overlapping or not → (T, P) uint8.

        Raises `UserError` for more than `MAX_FRAMES` frames, before the roll is allocated.
        """
        low, high = self.pitch_range
        notes = notes[(notes["pitch"] >= low) & (notes["pitch"] < high)]
        if (length := notes["end"].max(initial=0.0) / self.dt) > MAX_FRAMES:
            raise UserError(
                f"{length:,.0f} frames of dt={self.dt} s, but a roll may have {MAX_FRAMES:,}: "
                "choose a larger dt, or shorten the piece"
            )
        first_N, stop_N = (np.ceil(notes[c] / self.dt - 0.5).astype(int) for c in ("start", "end"))
        # How many notes of each pitch begin, less those that end, at each frame.
        change_TP = np.zeros((stop_N.max(initial=0) + 1, high - low), np.int32)
        column_N = notes["pitch"].astype(int) - low
        np.add.at(change_TP, (first_N, column_N), 1)
        np.add.at(change_TP, (stop_N, column_N), -1)
        roll_TP: np.ndarray = (change_TP[:-1].cumsum(axis=0) > 0).astype(np.uint8)
        return roll_TP

    def decode(self, roll_TP: np.ndarray) -> np.ndarray:
        """(T, P) of 0 and 1, of any numeric type → `NOTES` in the canonical order.

        With `frames_per_beat` they are laid out for a MIDI file: its ticks are on the beat, and
        with `common_key` it has the key, C major or C minor.
        """
        on_PT = np.asarray(roll_TP).T > 0
        if self.repeats == "retrigger":
            pitch, first = np.nonzero(on_PT)
            stop = first + 1
        else:
            edges_PT = np.diff(on_PT.astype(np.int8), axis=1, prepend=0, append=0)
            pitch, first = np.nonzero(edges_PT > 0)
            stop = np.nonzero(edges_PT < 0)[1]  # in the same order as the onsets: by pitch
        notes = np.empty(len(pitch), NOTES)
        notes["start"], notes["end"] = first * self.dt, stop * self.dt
        notes["pitch"], notes["velocity"] = pitch + self.pitch_range[0], VELOCITY
        return self._laid_out(notes[np.lexsort((notes["pitch"], notes["start"]))])

    def _laid_out(self, notes: np.ndarray) -> np.ndarray:
        if self.frames_per_beat is None or self.seconds_per_beat is None:
            return notes
        key = ("Cm" if is_minor(notes) else "C") if self.common_key else None
        ticks = ticks_for(self.frames_per_beat)
        return with_layout(notes, MidiLayout(self.seconds_per_beat, ticks, key=key))
