"""Ordinary MIDI files, read by compiled loops.

What is not ordinary is left to `musegen.codecs.midi_file`: another header, other chunks, a wrong
length, SMPTE time, tracks that follow each other in time, a tempo of 0, system messages, data bytes
above 127, numbers of more than four bytes. The notes are the same, bit by bit, in another order.

The times of messages get their classes by a compiled loop, too.

The loops (`musegen.codecs.midi_kernels`) are compiled once per computer, which takes seconds, and
are loaded once per process. One file is read sooner without them. So they are used only after
`prepare`, which is called before many files are read.
"""

from __future__ import annotations

import struct
from types import ModuleType

import numpy as np

HEADER = b"MThd\0\0\0\6"
FIRST_TRACK = 14
MAX_TRACKS = 256
"""The voices of a track take 100 KB."""
MIN_EVENT_BYTES = 3
"""A delta time and two data bytes."""
DEFAULT_TEMPO = 500_000
_loops: ModuleType | None = None


class Events:
    """The events of an ordinary file in playing order, in four columns (see `midi_kernels`).

    - division: ticks per quarter note.
    """

    def __init__(
        self, loops: ModuleType, division: int, num_tracks: int, columns: tuple[np.ndarray, ...]
    ) -> None:
        self.loops, self.division, self.num_tracks = loops, division, num_tracks
        if num_tracks > 1:  # the events of one track are in order
            order = columns[0].argsort(kind="stable")
            columns = tuple(column[order] for column in columns)
        self.ticks, self.tracks, self.kinds, self.values = columns

    def seconds(self, seconds_per_beat: float | None) -> np.ndarray:
        """The time of each event, at the tempos of the file or at one tempo."""
        tempo = DEFAULT_TEMPO if seconds_per_beat is None else seconds_per_beat * 1e6
        seconds = np.empty(len(self.ticks))
        self.loops.event_seconds(
            self.ticks, self.kinds, self.values, self.division, float(tempo),
            seconds_per_beat is not None, seconds,
        )  # fmt: skip
        return seconds

    def notes(
        self, sustain: bool, seconds_per_beat: float | None
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """(start and end, pitch and velocity) of each note, and the time of the last event."""
        n = len(self.ticks)
        times, details = np.empty((n, 2)), np.empty((n, 3), np.int64)
        rows, end = self.loops.pair_notes(
            self.seconds(seconds_per_beat), self.tracks, self.kinds, self.values, self.num_tracks,
            sustain, times, details,
        )  # fmt: skip
        return times[:rows], details[:rows, :2], end

    def mean_tempo(self) -> float | None:
        """Seconds per quarter note up to the last note or controller; None if it is at tick 0."""
        loops = self.loops
        channel = self.kinds & 0x0F
        audible = np.flatnonzero((self.kinds >= loops.NOTE_OFF) & (channel != loops.PERCUSSION))
        if not len(audible):
            return None
        beats = self.seconds(1.0)[audible[-1]]
        return float(self.seconds(None)[audible[-1]] / beats) if beats else None

    def signatures(self) -> list[tuple[int, int, int]]:
        """(tick, numerator, denominator) of the time signatures."""
        at = np.flatnonzero(self.kinds == self.loops.TIME_SIGNATURE)
        ticks, values = self.ticks[at].tolist(), self.values[at].tolist()
        return [(t, v >> 8, 2 ** (v & 0xFF)) for t, v in zip(ticks, values, strict=True)]


def prepare() -> None:
    """Compile or load the loops. From now on they are used."""
    global _loops
    if _loops is None:
        from musegen.codecs import midi_kernels

        _loops = midi_kernels
        tune = b"\0\x90\x3c\x50\1\x80\x3c\x40\0\xff\x2f\0"
        size = len(tune).to_bytes(4, "big")
        events = read(HEADER + struct.pack(">HHh", 0, 1, 1) + b"MTrk" + size + tune)
        assert events is not None
        events.notes(False, None)
        carried_classes(np.ones(1), np.array([0.0, 1.0]), np.array([0.5]))


def is_prepared() -> bool:
    """Whether `prepare` was called."""
    return _loops is not None


def carried_classes(times: np.ndarray, values: np.ndarray, edges: np.ndarray) -> np.ndarray | None:
    """The classes of times (`TimeGrid.classes`); None before `prepare`."""
    if _loops is None:
        return None
    classes = np.empty(len(times), np.int64)
    _loops.carried_classes(np.ascontiguousarray(times, np.float64), values, edges, classes)
    return classes


def read(data: bytes) -> Events | None:
    """The events of a file; None for a file that is not ordinary, and before `prepare`."""
    if _loops is None or len(data) < FIRST_TRACK or not data.startswith(HEADER):
        return None
    kind, _, division = struct.unpack(">HHh", data[len(HEADER) : FIRST_TRACK])
    if kind > 1 or division <= 0:
        return None
    capacity = len(data) // MIN_EVENT_BYTES
    columns = tuple(np.empty(capacity, np.int64) for _ in range(4))
    n, tracks = _loops.read_events(np.frombuffer(data, np.uint8), *columns)
    if n == _loops.NOT_ORDINARY or not 0 < tracks <= MAX_TRACKS:
        return None
    return Events(_loops, division, tracks, tuple(column[:n] for column in columns))
