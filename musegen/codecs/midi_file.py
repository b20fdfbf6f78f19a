"""The bytes of a Standard MIDI File → the messages of each track, with their ticks.

Many files do not follow the standard exactly, but other programs can play them. This reader
accepts them too: a file inside a RIFF wrapper (RMID) or after a MacBinary header, unknown chunks
before, between and after the tracks, a wrong number of tracks, a wrong track length, and running
status after a system exclusive message. If the length of a track is wrong, the track ends at its
End of Track message.

Damaged files are refused: a file that ends in the middle of a track, or a status byte that MIDI
does not define. Every byte is read once, so that the time is proportional to the size of the file,
even for a file that was made to slow the reader down.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import mido

HEADER, TRACK = b"MThd", b"MTrk"
MAX_PREFIX = 1024
"""The largest number of bytes before the header. A MacBinary header has 128, a tar header 512."""
END_OF_TRACK_BYTES = 4
"""The size of an End of Track message, which some programs count but do not write."""
META, SET_TEMPO, TIME_SIGNATURE, END_OF_TRACK = 0xFF, 0x51, 0x58, 0x2F
CONTROL_CHANGE = 0xB0
CONTROLS = frozenset((64, 120, 121, 123, 124, 125, 126, 127))
"""Controllers that change when a note ends: the sustain pedal, reset, and those that end notes."""
DATA_BYTES = {0x80: 2, 0x90: 2, 0xA0: 2, 0xB0: 2, 0xC0: 1, 0xD0: 1, 0xE0: 2}
"""The number of data bytes of channel messages, by the upper half of the status byte."""
SYSTEM_BYTES = {0xF1: 1, 0xF2: 2, 0xF3: 1, 0xF6: 0, 0xF8: 0, 0xFA: 0, 0xFB: 0, 0xFC: 0, 0xFE: 0}
EXCLUSIVE = (0xF0, 0xF7)

Event = tuple[int, mido.Message | mido.MetaMessage]
"""A tick and its message: a note, one of `CONTROLS`, set_tempo or time_signature."""


class BrokenFile(ValueError):
    """The bytes are not a MIDI file. The message gives the reason."""


class MidiData(NamedTuple):
    """The tracks of a file.

    - format: 2 means that the tracks follow each other in time.
    - division: ticks per quarter note; a negative number is SMPTE time.
    """

    format: int
    division: int
    tracks: list[list[Event]]


def parse(data: bytes) -> MidiData:
    """The events of each track. Raises `BrokenFile`."""
    data = _find_midi(data)
    if len(data) < 14:
        raise BrokenFile("it ends too early")
    length, kind, _, division = struct.unpack(">LHHh", data[4:14])
    if division == 0 or (division < 0 and not division & 0xFF):
        raise BrokenFile("its header has no unit of time")
    if data.endswith(b"\xff\x2f"):
        data += b"\0"  # the last byte of the last End of Track is missing
    position = 8 + length if _is_chunk(data, 8 + length) else 14
    tracks = []
    while (position := _next_track(data, position)) >= 0:
        track = _TrackReader(data, position)
        track.read()
        tracks.append(track.events)
        position = track.end
    if not tracks:
        raise BrokenFile("it has no track")
    return MidiData(kind, division, tracks)


def _find_midi(data: bytes) -> bytes:
    """The MIDI file without a RIFF wrapper and without bytes before the header."""
    riff = data[:4] == b"RIFF" and data[8:12] == b"RMID"
    start = data.find(HEADER, 0, None if riff else MAX_PREFIX + len(HEADER))
    if start < 0:
        if len(data) < len(HEADER):
            raise BrokenFile("it ends too early")
        raise BrokenFile("MThd not found")
    if riff and data[start - 8 : start - 4] == b"data":
        return data[start : start + int.from_bytes(data[start - 4 : start], "little")]
    return data[start:]


def _is_chunk(data: bytes, start: int) -> bool:
    """Whether a chunk seems to start there: a name of four characters and a possible length."""
    name = data[start : start + 4]
    if name == TRACK:
        return len(data) >= start + 8
    printable = len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)
    return printable and start + 8 + _size(data, start) <= len(data)


def _size(data: bytes, start: int) -> int:
    """The length that the header of a chunk gives."""
    return int.from_bytes(data[start + 4 : start + 8], "big")


def _next_track(data: bytes, start: int) -> int:
    """Skip other chunks: the start of the next track chunk, or −1 if there is none."""
    while start + 8 <= len(data):
        if data.startswith(TRACK, start):
            return start
        if data.startswith(HEADER, start):
            return -1  # another file, appended to this one
        end = start + 8 + _size(data, start)
        if not _is_chunk(data, start) or not (end == len(data) or _is_chunk(data, end)):
            return data.find(TRACK, start + 1)
        start = end
    return -1


class _TrackReader:
    """Reads the events of one track chunk, whose header starts at `start`."""

    def __init__(self, data: bytes, start: int) -> None:
        self.data, self.position = data, start + 8
        self.declared_end = self.position + _size(data, start)
        """The end of the track according to the header of the chunk."""
        self.end = self.declared_end
        self.events: list[Event] = []
        self.tick = self.status = 0
        self.end_of_track = 0
        """The position after the last End of Track message; 0 if there was none."""

    def read(self) -> None:
        """Fill `events` and set `end` to the real end of the track. Raises `BrokenFile`."""
        while not self._at_end():
            try:
                self._read_event()
            except (BrokenFile, IndexError) as e:
                if self.end_of_track:  # bytes after the End of Track are not events
                    self.position = self.end_of_track
                    break
                raise e if isinstance(e, BrokenFile) else BrokenFile("it ends too early") from e
        declared = self.declared_end
        wrong_length = self.position != declared and not _is_chunk(self.data, declared)
        use_position = wrong_length or self.data.startswith(TRACK, self.position)
        self.end = self.position if use_position else declared

    def _at_end(self) -> bool:
        position, declared, size = self.position, self.declared_end, len(self.data)
        if position == self.end_of_track:
            another_track = self.data.startswith(TRACK, position)
            return position >= declared or declared > size or another_track
        if position == declared:
            return position == size or _is_chunk(self.data, position)
        if position > declared and self.data.startswith(TRACK, declared):
            raise BrokenFile("an event crosses the end of its track")
        return position == size and declared - size <= END_OF_TRACK_BYTES

    def _read_event(self) -> None:
        self.tick += self._read_number()
        status = self.data[self.position]
        if status >= 0x80:
            self.position += 1
            if status < 0xF0:
                self.status = status
        else:
            status = self.status  # running status
        if status == META:
            self._read_meta()
        elif status in EXCLUSIVE:
            self._read_bytes(self._read_number())
        elif status >= 0xF0:
            self._read_system(status)
        elif status:
            self._read_channel_message(status)
        else:
            raise BrokenFile(f"running status without a status, at byte {self.position}")

    def _read_number(self) -> int:
        """A number of variable length: seven bits per byte, the most significant first."""
        value = 0
        for _ in range(8):  # the standard allows four bytes
            byte = self.data[self.position]
            self.position += 1
            value = value << 7 | byte & 0x7F
            if byte < 0x80:
                return value
        raise BrokenFile(f"a number without an end, at byte {self.position}")

    def _read_bytes(self, count: int) -> bytes:
        if self.position + count > len(self.data):
            raise BrokenFile("it ends too early")
        self.position += count
        return self.data[self.position - count : self.position]

    def _read_meta(self) -> None:
        """Read a meta message. Only tempos, time signatures and End of Track are used and checked.

        A time signature of zero beats is ignored.
        """
        kind = self._read_bytes(1)[0]
        content = self._read_bytes(self._read_number())
        if kind == END_OF_TRACK:
            self.end_of_track = self.position
        elif kind == SET_TEMPO and len(content) >= 3:
            tempo = int.from_bytes(content[:3], "big")
            self.events.append((self.tick, mido.MetaMessage("set_tempo", tempo=tempo)))
        elif kind == TIME_SIGNATURE and len(content) >= 2 and content[0] and content[1] < 8:
            numerator, denominator = content[0], 2 ** content[1]
            signature = {"numerator": numerator, "denominator": denominator}
            self.events.append((self.tick, mido.MetaMessage("time_signature", **signature)))

    def _read_system(self, status: int) -> None:
        if status not in SYSTEM_BYTES:
            raise BrokenFile(f"undefined status byte {status:#04x}, at byte {self.position - 1}")
        self._read_bytes(SYSTEM_BYTES[status])

    def _read_channel_message(self, status: int) -> None:
        content = self._read_bytes(DATA_BYTES[status & 0xF0])
        kind = status & 0xF0
        if kind > 0x90 and not (kind == CONTROL_CHANGE and content[0] in CONTROLS):
            return
        clipped = [min(byte, 127) for byte in content]
        self.events.append((self.tick, mido.Message.from_bytes([status, *clipped])))
