"""(note, velocity, time) message streams ↔ class indices, and streams ↔ notes.

A stream is a `MESSAGES` array: an onset has velocity 1–127, a release velocity 0, and time is
the number of seconds since the previous message.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Interval

from musegen.codecs.labels import Labels, check_labels
from musegen.codecs.midi import NOTES, read_prime, tidy
from musegen.constraints import PositiveFloat, check_fields
from musegen.errors import UserError
from musegen.specs import LabelledMessages, Messages

MESSAGES = np.dtype([("note", "u1"), ("velocity", "u1"), ("time", "f4")])
"""Columns of a stream: MIDI pitch, velocity (0 = release), seconds since the last message."""

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
    """(note, velocity, seconds) ↔ three class indices per message.

    - note: MIDI pitches `pitch_range[0]` to `pitch_range[1] - 1`. Other messages are left out,
      and their time is added to the next message.
    - velocity: class 0 is a release; 1–127 are divided into `velocity_bins` equal bins.
    - time: class 0 is exactly 0 s. With `time_scale="log"` the centres of the other `time_bins`
      bins form a geometric sequence from `time_min` to `time_max` seconds, so that ornaments and
      pauses have the same relative precision (by default a bin is 12 % longer than the one
      before). `"linear"` is the scale of the "Neural Mozart" course: `time_bins` equal bins from
      0 to `time_max`; in the course 10 bins up to 1 s.
    - pitch_range: the lowest pitch, and the one above the highest. velocity_bins, time_bins: how
      many bins. time_scale: `log` or `linear`. time_min, time_max: the range of times, in seconds.
    - sustain: whether notes last under the pedal in the files that `read` reads; the data module
      sets it to what it did itself, so that a prime is read like the training data.
    - labels: the names of the labels, for labelled pieces.

    `decode` returns the centre of a bin: `decode(encode(x))` equals `quantise(x)`, and
    `encode(decode(c))` equals c. Raises `UserError` for settings out of range.
    """

    pitch_range: tuple[int, int] = (21, 109)
    velocity_bins: Annotated[int, Interval(ge=1, le=127)] = 32
    time_scale: Literal["log", "linear"] = "log"
    time_bins: Annotated[int, Interval(ge=2, le=10_000)] = 63
    time_min: PositiveFloat = 0.005
    time_max: PositiveFloat = 8.0
    sustain: bool = False
    labels: Labels = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_labels(self.labels)
        low, high = self.pitch_range
        if not 0 <= low < high <= 128:
            raise UserError(f"pitch_range={[low, high]}: should satisfy 0 ≤ low < high ≤ 128")
        if self.time_min >= self.time_max:
            raise UserError(
                f"time_min={self.time_min}: should be less than time_max={self.time_max}"
            )

    @property
    def spec(self) -> Messages:
        """The number of classes of each field, and of labels."""
        low, high = self.pitch_range
        sizes = (high - low, self.velocity_bins + 1, self.time_bins + 1)
        if self.labels is None:
            return Messages(*sizes)
        return LabelledMessages(*sizes, len(self.labels))

    def to_dict(self) -> dict[str, Any]:
        """Plain settings for a checkpoint; `MessageCodec(**plain)` is the inverse."""
        labels = None if self.labels is None else list(self.labels)
        return {**asdict(self), "pitch_range": list(self.pitch_range), "labels": labels}

    def read(self, path: str | Path, seconds: float | None = None) -> np.ndarray:
        """The stream of a MIDI file, or of its first `seconds`, as the training data were read.

        Raises `UserError` as `read_prime` does.
        """
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
        velocity = self._velocity_class[stream["velocity"]]
        return np.stack([note, velocity, self.time_class(stream["time"])], axis=1)

    def decode(self, classes: np.ndarray) -> np.ndarray:
        """(T, 3) classes → (T,) `MESSAGES`, for any classes within the spec's sizes."""
        stream = np.empty(len(classes), MESSAGES)
        stream["note"] = classes[:, 0] + self.pitch_range[0]
        stream["velocity"] = self._velocity_value[classes[:, 1]]
        stream["time"] = self._time_value[classes[:, 2]]
        return stream

    def quantise(self, stream: np.ndarray) -> np.ndarray:
        """The stream with every value replaced by the centre of its bin."""
        return self.decode(self.encode(stream))

    def time_class(self, seconds: np.ndarray) -> np.ndarray:
        """Seconds → time classes. Longer times get the last class."""
        classes: np.ndarray = np.where(
            seconds <= 0, 0, 1 + np.searchsorted(self._time_edge, seconds)
        )
        return classes

    @cached_property
    def _time_value(self) -> np.ndarray:
        if self.time_scale == "log":
            centres = np.geomspace(self.time_min, self.time_max, self.time_bins)
        else:
            centres = (np.arange(self.time_bins) + 0.5) * self.time_max / self.time_bins
        values: np.ndarray = np.r_[0.0, centres]
        return values.astype(np.float32)

    @cached_property
    def _time_edge(self) -> np.ndarray:
        centres = self._time_value[1:].astype(np.float64)
        log = self.time_scale == "log"
        edges: np.ndarray = (
            np.sqrt(centres[1:] * centres[:-1]) if log else (centres[1:] + centres[:-1]) / 2
        )
        return edges.astype(np.float32)

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
