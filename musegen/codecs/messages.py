"""(note, velocity, time) message streams ↔ class indices, and streams ↔ notes.

A stream is a `MESSAGES` array: an onset has velocity 1–127, a release velocity 0, and time is
the number of seconds since the previous message. A stream in beats (`SCORE_MESSAGES`) also has the
tempo and the bars of its piece; its first time is counted from a bar line.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Interval

from musegen.codecs.labels import Labels, check_labels
from musegen.codecs.meter import COMMON_BAR, bars_of_messages, clock_of
from musegen.codecs.midi import NOTES, Score, read_prime, read_score, tidy
from musegen.codecs.midi_layout import MidiLayout, ticks_for, with_layout
from musegen.codecs.time_grid import TICKS, TimeGrid, beat_grid, linear_grid, log_grid
from musegen.constraints import BeatsPerMinute, PositiveFloat, check_fields
from musegen.errors import UserError
from musegen.specs import LabelledMessages, Messages

MESSAGES = np.dtype([("note", "u1"), ("velocity", "u1"), ("time", "f8")])
"""Columns of a stream: MIDI pitch, velocity (0 = release), time since the last message."""
SCORE_MESSAGES = np.dtype(
    [*MESSAGES.descr, ("bar_origin", "f8"), ("bar", "f8"), ("seconds_per_beat", "f8")]
)
"""Of a stream in beats: also where bars are counted from, the length of a bar, and the tempo."""

FIELDS = ("note", "velocity", "time")


def notes_to_messages(notes: np.ndarray) -> np.ndarray:
    """Notes → stream. At equal times releases come first, then lower pitches."""
    n = len(notes)
    at = np.r_[notes["start"], notes["end"]]
    pitch = np.r_[notes["pitch"], notes["pitch"]]
    velocity = np.r_[notes["velocity"], np.zeros(n, np.uint8)]
    order = np.lexsort((pitch, velocity > 0, at))
    stream = np.empty(2 * n, MESSAGES)
    stream["note"], stream["velocity"] = pitch[order], velocity[order]
    stream["time"] = np.diff(at[order], prepend=at[order][:1])
    return stream


def score_to_messages(score: Score) -> np.ndarray:
    """A score → its stream in beats. The first time is counted from the bar line before it."""
    plain = notes_to_messages(score.notes)
    at = np.cumsum(plain["time"])
    if len(at):
        at += score.notes["start"].min()
    bar_line, origin, length = bars_of_messages(score, at)
    stream = np.empty(len(plain), SCORE_MESSAGES)
    for column in MESSAGES.fields or ():
        stream[column] = plain[column]
    stream["time"][:1] = at[:1] - bar_line
    stream["bar_origin"], stream["bar"] = origin, length
    stream["seconds_per_beat"] = score.seconds_per_beat
    return stream


def messages_to_notes(stream: np.ndarray) -> np.ndarray:
    """Any stream → valid notes.

    A release of a silent pitch is ignored. An onset of a sounding pitch ends its note and starts
    another. Notes that still sound at the end of the stream end there.
    """
    clock = np.cumsum(stream["time"], dtype=np.float64)
    rows: list[tuple[float, float, int, int]] = []
    open_row: dict[int, int] = {}
    columns = zip(clock.tolist(), stream["note"].tolist(), stream["velocity"].tolist(), strict=True)
    for seconds, pitch, velocity in columns:
        if pitch in open_row:
            row = open_row.pop(pitch)
            rows[row] = (rows[row][0], seconds, pitch, rows[row][3])
        if velocity > 0:
            open_row[pitch] = len(rows)
            rows.append((seconds, clock[-1], pitch, velocity))
    return tidy(np.array(rows, NOTES))


@dataclass(frozen=True)
class MessageCodec:
    """(note, velocity, time) ↔ three class indices per message.

    - note: MIDI pitches `pitch_range[0]` to `pitch_range[1] - 1`. Other messages are left out,
      and their time is added to the next message.
    - velocity: class 0 is a release; 1–127 are divided into `velocity_bins` equal bins.
    - time: class 0 is no time. With `time_unit="seconds"`, for performances, and
      `time_scale="log"` the centres of the other `time_bins` bins form a geometric sequence from
      `time_min` to `time_max` seconds, so that ornaments and pauses have the same relative
      precision (with 127 bins, the default, a bin is 6 % longer than the one before; with 63 bins
      a third of the onsets that lie on the grid of a score leave it). `"linear"` is the scale of
      the "Neural Mozart" course: `time_bins` equal bins from 0 to `time_max`; in the course 10
      bins up to 1 s. With `time_unit="beats"`, for scores, the classes are 1/24 beat to 1 beat,
      quarters of a beat to 4, halves to 8, then whole beats; 63 of them by default. A beat is a
      quarter note. The rounding error is carried (`musegen.codecs.time_grid`).
    - pitch_range: the lowest pitch, and the one above the highest. velocity_bins, time_bins: how
      many bins. time_unit: `seconds` or `beats`. time_scale: `log` or `linear`. time_min, time_max:
      the range of times, in seconds.
    - sustain: whether notes last under the pedal in the files that `read` reads; the data module
      sets it to what it did itself, so that a prime is read like the training data.
    - longest_match: whether models are also given what followed when the last messages came before
      in the piece (`musegen.codecs.message_matches`). Scores repeat themselves; performances, with
      times in seconds, rarely do so exactly.
    - labels: the names of the labels, for labelled pieces.
    - tempo: quarter notes per minute of the pieces that a model in beats generates.
    - program: the General MIDI instrument of generated pieces, 0 (grand piano) to 127.

    `decode` returns the centre of a bin: `decode(encode(x))` equals `quantise(x)`, and
    `encode(decode(c))` equals c. Raises `UserError` for settings out of range.
    """

    pitch_range: tuple[int, int] = (21, 109)
    velocity_bins: Annotated[int, Interval(ge=1, le=127)] = 32
    time_unit: Literal["seconds", "beats"] = "seconds"
    time_scale: Literal["log", "linear"] = "log"
    time_bins: Annotated[int, Interval(ge=2, le=10_000)] | None = None
    time_min: PositiveFloat = 0.005
    time_max: PositiveFloat = 8.0
    sustain: bool = False
    longest_match: bool = False
    labels: Labels = None
    tempo: BeatsPerMinute = 120.0
    program: Annotated[int, Interval(ge=0, le=127)] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        check_labels(self.labels)
        low, high = self.pitch_range
        if not 0 <= low < high <= 128:
            raise UserError(f"pitch_range={[low, high]}: should satisfy 0 ≤ low < high ≤ 128")
        if self.time_bins is None:
            object.__setattr__(self, "time_bins", 63 if self.in_beats else 127)
        if self.time_min >= self.time_max:
            raise UserError(
                f"time_min={self.time_min}: should be less than time_max={self.time_max}"
            )

    @property
    def in_beats(self) -> bool:
        """Whether times are beats."""
        return self.time_unit == "beats"

    @property
    def spec(self) -> Messages:
        """The number of classes of each field and of labels, and the ticks of a beat."""
        low, high = self.pitch_range
        clock = TICKS if self.in_beats else 0
        sizes = high - low, self.velocity_bins + 1, len(self.grid.values)
        if self.labels is None:
            return Messages(*sizes, clock, self.longest_match)
        num_labels = len(self.labels)
        return LabelledMessages(*sizes, clock, self.longest_match, num_labels=num_labels)

    def to_dict(self) -> dict[str, Any]:
        """Plain settings for a checkpoint; `MessageCodec(**plain)` is the inverse."""
        labels = None if self.labels is None else list(self.labels)
        return {**asdict(self), "pitch_range": list(self.pitch_range), "labels": labels}

    def read(self, path: str | Path, seconds: float | None = None) -> np.ndarray:
        """The stream of a MIDI file, or of its first `seconds`, as the training data were read.

        Raises `UserError` as `read_prime` does, and in beats as `read_score` does.
        """
        if self.in_beats:
            return score_to_messages(read_score(path, seconds, sustain=self.sustain))
        return notes_to_messages(read_prime(path, seconds, sustain=self.sustain))

    def in_range(self, stream: np.ndarray) -> np.ndarray:
        """The stream without the messages outside `pitch_range`; the others keep their times."""
        low, high = self.pitch_range
        keep = (stream["note"] >= low) & (stream["note"] < high)
        if keep.all():
            return stream
        clock = np.cumsum(stream["time"], dtype=np.float64)[keep]
        kept = stream[keep].copy()
        kept["time"] = np.diff(clock, prepend=0.0)
        return kept

    def encode(self, stream: np.ndarray) -> np.ndarray:
        """(T,) `MESSAGES` → (T, 3) int64 classes, without the notes outside the range."""
        stream = self.in_range(stream)
        note = stream["note"].astype(np.int64) - self.pitch_range[0]
        velocity = self.velocity_classes(stream["velocity"])
        return np.stack([note, velocity, self.grid.classes(stream["time"])], axis=1)

    def decode(self, classes: np.ndarray) -> np.ndarray:
        """(T, 3) classes → (T,) `MESSAGES`, for any classes within the spec's sizes."""
        stream = np.empty(len(classes), MESSAGES)
        stream["note"] = classes[:, 0] + self.pitch_range[0]
        stream["velocity"] = self.velocities(classes[:, 1])
        stream["time"] = self.grid.values[classes[:, 2]]
        return stream

    def quantise(self, stream: np.ndarray) -> np.ndarray:
        """The stream with every value replaced by the centre of its bin."""
        return self.decode(self.encode(stream))

    def velocity_classes(self, velocities: np.ndarray) -> np.ndarray:
        """The classes of velocities from 0 to 127."""
        classes: np.ndarray = self._velocity_class[velocities]
        return classes

    def velocities(self, classes: np.ndarray) -> np.ndarray:
        """The velocity in the middle of each class."""
        values: np.ndarray = self._velocity_value[classes]
        return values

    def clock(self, stream: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The clock (T, 2) of a stream in beats within the range, and of its classes.

        It is counted along the quantised times, as a model counts it while it generates.
        """
        ticks_T = np.cumsum(self.ticks[classes[:, 2]])
        return clock_of(ticks_T, stream["bar_origin"], stream["bar"])

    def prime_clock(
        self, stream: np.ndarray, classes: np.ndarray, usual: int, bar: int | None
    ) -> np.ndarray:
        """The clock before the first message and at each message of a prime, (1 + T, 2).

        Bars have `bar` ticks from the last message on, by default those of the prime. Without a
        prime they have `usual` ticks, or, if this is 0, those of 4/4.
        """
        before = [[0, bar or usual or COMMON_BAR]]
        if not self.in_beats:
            return np.repeat(before, 1 + len(stream), axis=0)
        clock_TC = self.clock(stream, classes)
        if len(stream):
            before = [[0, clock_TC[0, 1]]]
        clock_TC = np.concatenate([before, clock_TC])
        if bar is not None:
            clock_TC[-1] = clock_TC[-1, 0] % bar, bar
        return clock_TC

    def to_notes(
        self, stream: np.ndarray, tempo: float | None = None,
        time_signature: tuple[int, int] | None = None,
    ) -> np.ndarray:  # fmt: skip
        """A stream, in the codec's unit → notes in seconds, laid out for a MIDI file.

        `tempo` is in quarter notes per minute, by default the codec's.
        """
        notes = messages_to_notes(stream)
        if not self.in_beats:
            return with_layout(notes, MidiLayout(program=self.program))
        seconds_per_beat = 60 / (tempo or self.tempo)
        for column in ("start", "end"):
            notes[column] *= seconds_per_beat
        layout = MidiLayout(
            seconds_per_beat, ticks_for(TICKS), time_signature, program=self.program
        )
        return with_layout(notes, layout)

    @cached_property
    def grid(self) -> TimeGrid:
        """The times of the classes."""
        assert self.time_bins is not None
        if self.in_beats:
            return beat_grid(self.time_bins)
        if self.time_scale == "log":
            return log_grid(self.time_bins, self.time_min, self.time_max)
        return linear_grid(self.time_bins, self.time_max)

    @cached_property
    def ticks(self) -> np.ndarray:
        """The ticks of each time class, in beats."""
        ticks: np.ndarray = np.round(self.grid.values * TICKS).astype(np.int64)
        return ticks

    @cached_property
    def _velocity_class(self) -> np.ndarray:
        classes: np.ndarray = np.r_[0, 1 + np.arange(127) * self.velocity_bins // 127]
        return classes

    @cached_property
    def _velocity_value(self) -> np.ndarray:
        middle = [
            np.median(np.flatnonzero(self._velocity_class == c))
            for c in range(1, self.velocity_bins + 1)
        ]
        values: np.ndarray = np.r_[0, np.asarray(middle)]
        return values.astype(np.uint8)
