"""The bytes of a Standard MIDI File → the messages of its tracks, at ticks.

Many files in circulation are not quite as the standard says, and other programs play them all the
same. This reader takes them as well: the file inside a RIFF wrapper (RMID) or behind a MacBinary
header, unknown chunks before, between and behind the tracks, a track count or a track length that
is wrong, and running status that continues after a system exclusive message. Where a track's length
is wrong, its End of Track message decides where it ends.

What is damaged stays refused: a file that ends in the middle of a track, a status byte that MIDI
does not define. Every byte is looked at once, so a hostile file costs no more than its size.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import mido

HEADER, TRACK = b"MThd", b"MTrk"
JUNK = 1024
"""Bytes in front of the header at most: a MacBinary header has 128, a tar header 512."""
MISSING = 4
"""Bytes of a whole End of Track message, which some programs count and do not write."""
META, SET_TEMPO, END_OF_TRACK = 0xFF, 0x51, 0x2F
CONTROL_CHANGE = 0xB0
CONTROLS = frozenset((64, 120, 121, 123, 124, 125, 126, 127))
"""Controllers that decide when a note ends: the sustain pedal, reset, and what silences notes."""
DATA_BYTES = {0x80: 2, 0x90: 2, 0xA0: 2, 0xB0: 2, 0xC0: 1, 0xD0: 1, 0xE0: 2}
"""Of channel messages, by the upper half of the status byte."""
SYSTEM_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, 0xF8: 0, 0xFA: 0, 0xFB: 0, 0xFC: 0, 0xFE: 0}
EXCLUSIVE = (0xF0, 0xF7)

Event = tuple[int, mido.Message | mido.MetaMessage]
"""A tick and what happens there: a note, one of `CONTROLS`, or a set_tempo."""


class BrokenFile(ValueError):
    """Bytes that are no MIDI file; says why."""


class MidiData(NamedTuple):
    """format 2 means that the tracks follow each other; division is ticks per quarter note, or
    negative for SMPTE time."""

    format: int
    division: int
    tracks: list[list[Event]]


def parse(data: bytes) -> MidiData:
    """The events of each track. Raises `BrokenFile`."""
    data = _unwrapped(data)
    if len(data) < 14:
        raise BrokenFile("it ends too early")
    length, kind, _, division = struct.unpack(">LHHh", data[4:14])
    if division == 0 or (division < 0 and not division & 0xFF):
        raise BrokenFile("its header gives no unit of time")
    if data.endswith(b"\xff\x2f"):
        data += b"\0"  # only the last byte of the last End of Track is missing
    at = 8 + length if _is_chunk(data, 8 + length) else 14
    tracks = []
    while (at := _next_track(data, at)) >= 0:
        track = _TrackReader(data, at)
        track.read()
        tracks.append(track.events)
        at = track.end
    if not tracks:
        raise BrokenFile("it holds no track")
    return MidiData(kind, division, tracks)


def _unwrapped(data: bytes) -> bytes:
    """The MIDI file inside what may be a RIFF file or begin with other bytes."""
    riff = data[:4] == b"RIFF" and data[8:12] == b"RMID"
    at = data.find(HEADER, 0, None if riff else JUNK + len(HEADER))
    if at < 0:
        if len(data) < len(HEADER):
            raise BrokenFile("it ends too early")
        raise BrokenFile("MThd not found")
    if riff and data[at - 8 : at - 4] == b"data":
        return data[at : at + int.from_bytes(data[at - 4 : at], "little")]
    return data[at:]


def _is_chunk(data: bytes, at: int) -> bool:
    """Whether a chunk seems to begin there: a name of four letters, and a length that fits."""
    name = data[at : at + 4]
    if name == TRACK:
        return len(data) >= at + 8
    printable = len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)
    return printable and at + 8 + _size(data, at) <= len(data)


def _size(data: bytes, at: int) -> int:
    return int.from_bytes(data[at + 4 : at + 8], "big")


def _next_track(data: bytes, at: int) -> int:
    """Where the next track chunk begins, other chunks skipped; −1 where there is none."""
    while at + 8 <= len(data):
        if data.startswith(TRACK, at):
            return at
        if data.startswith(HEADER, at):
            return -1  # another file, appended to this one
        end = at + 8 + _size(data, at)
        if not _is_chunk(data, at) or not (end == len(data) or _is_chunk(data, end)):
            return data.find(TRACK, at + 1)
        at = end
    return -1


class _TrackReader:
    """Walks through one track chunk, whose header begins at `at`."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at + 8
        self.declared = self.at + _size(data, at)
        """Where the track ends, if its length is right."""
        self.end = self.declared
        self.events: list[Event] = []
        self.tick = self.status = 0
        self.complete = 0
        """Where the last End of Track ended; 0 before it."""

    def read(self) -> None:
        """Fill `events`, and set `end` to where the track ends. Raises `BrokenFile`."""
        while not self._ends_here():
            try:
                self._event()
            except (BrokenFile, IndexError) as e:
                if self.complete:  # whatever comes behind the End of Track is not music
                    self.at = self.complete
                    break
                raise e if isinstance(e, BrokenFile) else BrokenFile("it ends too early") from e
        wrong = self.at != self.declared and not _is_chunk(self.data, self.declared)
        self.end = self.at if wrong or self.data.startswith(TRACK, self.at) else self.declared

    def _ends_here(self) -> bool:
        at, declared, size = self.at, self.declared, len(self.data)
        if at == self.complete:
            return at >= declared or declared > size or self.data.startswith(TRACK, at)
        if at == declared:
            return at == size or _is_chunk(self.data, at)
        if at > declared and self.data.startswith(TRACK, declared):
            raise BrokenFile("an event crosses the end of its track")
        return at == size and declared - size <= MISSING

    def _event(self) -> None:
        self.tick += self._number()
        status = self.data[self.at]
        if status >= 0x80:
            self.at += 1
            if status < 0xF0:
                self.status = status
        else:
            status = self.status  # running status
        if status == META:
            self._meta()
        elif status in EXCLUSIVE:
            self._take(self._number())
        elif status >= 0xF0:
            self._system(status)
        elif status:
            self._channel(status)
        else:
            raise BrokenFile(f"running status without a status, at byte {self.at}")

    def _number(self) -> int:
        """A number of variable length: seven bits a byte, most significant first."""
        value = 0
        for _ in range(8):  # four by the standard
            byte = self.data[self.at]
            self.at += 1
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value
        raise BrokenFile(f"a number without an end, at byte {self.at}")

    def _take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise BrokenFile("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def _meta(self) -> None:
        """Only tempos and ends of track are used; the others may be as broken as they like."""
        kind = self._take(1)[0]
        content = self._take(self._number())
        if kind == END_OF_TRACK:
            self.complete = self.at
        elif kind == SET_TEMPO and len(content) >= 3:
            tempo = int.from_bytes(content[:3], "big")
            self.events.append((self.tick, mido.MetaMessage("set_tempo", tempo=tempo)))

    def _system(self, status: int) -> None:
        if status not in SYSTEM_BYTES:
            raise BrokenFile(f"undefined status byte {status:#04x}, at byte {self.at - 1}")
        self._take(SYSTEM_BYTES[status])

    def _channel(self, status: int) -> None:
        content = self._take(DATA_BYTES[status & 0xF0])
        kind = status & 0xF0
        if kind > 0x90 and not (kind == CONTROL_CHANGE and content[0] in CONTROLS):
            return
        clipped = [min(byte, 127) for byte in content]
        self.events.append((self.tick, mido.Message.from_bytes([status, *clipped])))
