"""MIDI files ↔ notes in seconds, with limits on size and length.

A piece is a `NOTES` array: one element per note, sorted by (start, pitch). Channels are merged and
percussion (channel 10) is left out. Two notes of one pitch never overlap: if a pitch is played
again while it sounds, the first note ends at the new onset.
"""

from __future__ import annotations

import os
import stat
import warnings
from pathlib import Path
from typing import NamedTuple

import mido
import numpy as np

from musegen.codecs import midi_compiled
from musegen.codecs.midi_file import BrokenFile, MidiData, parse
from musegen.codecs.midi_layout import MidiLayout, layout_of
from musegen.codecs.midi_pairing import pair
from musegen.errors import UserError
from musegen.runtime.atomic import replacing

NOTES = np.dtype([("start", "f8"), ("end", "f8"), ("pitch", "u1"), ("velocity", "u1")])
"""The fields of a note: start and end in seconds, MIDI pitch 0–127, velocity 1–127."""

BARS = np.dtype([("start", "f8"), ("origin", "f8"), ("length", "f8")])
"""A time signature: the beat from which on it is valid, a beat where one of its bars starts, and
beats per bar. A beat is a quarter note."""

MAX_BYTES = 4 << 20
"""Ten times the largest file of MAESTRO. Three bytes of a file can become a 500-byte object."""
MAX_SECONDS = 6 * 3600.0
"""Longer than any real piece. One corrupt delta time of 2²⁸ ticks is days at usual tempos."""

MIDDLE_C = 60
PERCUSSION_CHANNEL = 9
MICROSECONDS_PER_BEAT = 500_000
"""The tempo of a file that gives none: 120 beats per minute."""


class Score(NamedTuple):
    """A piece in beats, that is quarter notes.

    - notes: `NOTES` whose times are beats from the start of the file.
    - bars: `BARS`, sorted by start.
    - seconds_per_beat: its mean tempo.
    """

    notes: np.ndarray
    bars: np.ndarray
    seconds_per_beat: float


def read_notes(
    path: str | Path,
    *,
    sustain: bool = False,
    seconds_per_beat: float | None = None,
    overlapping: bool = False,
) -> np.ndarray:
    """Read the notes of a MIDI file, in seconds, from all channels except percussion.

    Tempo changes and SMPTE time are supported. A note_on with velocity 0 ends a note.
    `musegen.codecs.midi_pairing` explains which release ends which note; a note without a release
    ends with the last event.

    - sustain: a note that is released while the pedal (controller 64 ≥ 64) is down lasts until
      the pedal is released or the pitch is played again.
    - seconds_per_beat: every quarter note lasts this long; the file's tempos are ignored.
    - overlapping: two parts may have the same pitch at the same time, as two notes. The notes are
      then not sorted.

    A tempo of 0 is ignored with a warning. Raises `UserError` for a file that cannot be read, is
    larger than 4 MiB or is longer than six hours. A file without notes gives an empty array.
    """
    notes = _notes(path, _load(path), sustain, seconds_per_beat)
    return notes if overlapping else tidy(notes)


def read_prime(
    path: str | Path,
    seconds: float | None = None,
    *,
    sustain: bool = False,
    seconds_per_beat: float | None = None,
    overlapping: bool = False,
) -> np.ndarray:
    """The notes that start in the first `seconds` of a MIDI file, cut off there; None reads all.

    The seconds are at the tempo of the file, even if `seconds_per_beat` sets another tempo. The
    other settings and errors are those of `read_notes`. Raises `UserError` if seconds ≤ 0.
    """
    if seconds is not None and not seconds > 0:
        raise UserError(f"prime_seconds={seconds}: must be above 0")
    if seconds is None:
        return read_notes(
            path, sustain=sustain, seconds_per_beat=seconds_per_beat, overlapping=overlapping
        )
    data = _parsed(path, _content(path))
    notes = _notes(path, data, sustain, seconds_per_beat)
    if not overlapping:
        notes = tidy(notes)
    cut = seconds if seconds_per_beat is None else _beats(data, seconds) * seconds_per_beat
    notes = notes[notes["start"] < cut]
    notes["end"] = notes["end"].clip(max=cut)
    return notes


def read_score(path: str | Path, seconds: float | None = None, *, sustain: bool = False) -> Score:
    """The notes that start in the first `seconds` of a MIDI file, in beats, and its bars.

    The settings and errors are those of `read_prime`. Raises `UserError` for a file with SMPTE
    time, which has no beats.
    """
    notes = read_prime(path, seconds, sustain=sustain, seconds_per_beat=1.0)
    data = _load(path)
    if isinstance(data, midi_compiled.Events):
        tempo, signatures = data.mean_tempo(), data.signatures()
    else:
        events, beats = _events(data, None), _events(data, 1.0)
        tempo = events[-1][0] / beats[-1][0] if beats and beats[-1][0] else None
        signatures = [
            (tick, message.numerator, message.denominator)
            for tick, _, message in _in_playing_order(data)
            if message.type == "time_signature"
        ]
    bars = _bars(signatures, data.division)
    return Score(notes, bars, MICROSECONDS_PER_BEAT / 1e6 if tempo is None else tempo)


def _bars(signatures: list[tuple[int, int, int]], division: int) -> np.ndarray:
    """(tick, numerator, denominator) of the time signatures as `BARS`, the first one at beat 0.

    If another one comes before its first bar is complete, this bar is an upbeat: the end of a bar.
    """
    found = {0.0: 4.0}
    for tick, numerator, denominator in signatures:
        found[tick / division] = 4 * numerator / denominator
    start, length = np.array(list(found)), np.array(list(found.values()))
    origin, following = start.copy(), np.append(start[1:], np.inf)
    upbeat = following < start + length
    origin[upbeat] = (following - length)[upbeat]
    bars = np.empty(len(start), BARS)
    bars["start"], bars["origin"], bars["length"] = start, origin, length
    return bars


def printable(path: str | Path) -> str:
    r"""The path for a message or a report. Bytes that are not UTF-8 are escaped, such as \xe9."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def write_notes(notes: np.ndarray, path: str | Path) -> None:
    """Write notes as a MIDI file, with the ticks, the tempo and the signs of their layout.

    The first track has the tempo, the time signature and the key, the second one the notes.
    Without a layout (`musegen.codecs.midi_layout`) times are rounded to milliseconds. An
    interrupted write leaves no partial file.
    """
    layout = layout_of(notes)
    rounded = notes.copy()
    for column in ("start", "end"):
        rounded[column] = layout.ticks(notes[column])
    with replacing(path, "wb") as file:
        mido.MidiFile(
            ticks_per_beat=layout.ticks_per_beat,
            tracks=[_conductor_track(layout), _note_track(tidy(rounded), layout)],
        ).save(file=file)


def _conductor_track(layout: MidiLayout) -> mido.MidiTrack:
    tempo = round(layout.seconds_per_beat * 1e6)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)])
    if layout.time_signature:
        numerator, denominator = layout.time_signature
        signature = {"numerator": numerator, "denominator": denominator}
        track.append(mido.MetaMessage("time_signature", **signature))
    if layout.key:
        track.append(mido.MetaMessage("key_signature", key=layout.key))
    return track


def _note_track(notes: np.ndarray, layout: MidiLayout) -> mido.MidiTrack:
    """The track of notes whose times are ticks."""
    onsets = [(int(n["start"]), 1, int(n["pitch"]), int(n["velocity"])) for n in notes]
    releases = [(int(n["end"]), 0, int(n["pitch"]), 0) for n in notes]
    track = mido.MidiTrack([
        mido.MetaMessage("track_name", name=layout.track_name),
        mido.Message("program_change", program=layout.program),
    ])  # fmt: skip
    clock = 0
    for tick, _, pitch, velocity in sorted(onsets + releases):  # releases before onsets
        track.append(mido.Message("note_on", note=pitch, velocity=velocity, time=tick - clock))
        clock = tick
    return track


def tidy(notes: np.ndarray) -> np.ndarray:
    """Sort notes by (start, pitch) and remove empty notes and overlaps within a pitch.

    A later onset ends the earlier note of the same pitch. Two notes of one pitch with the same
    onset become one note, with the longer duration and the greater velocity.
    """
    notes = notes[notes["end"] > notes["start"]]
    if not len(notes):
        return notes
    notes = notes[np.lexsort((notes["start"], notes["pitch"]))]
    first = np.r_[
        True, (np.diff(notes["start"]) > 0) | (np.diff(notes["pitch"].astype(np.int16)) > 0)
    ]
    firsts = np.flatnonzero(first)
    merged = notes[firsts]
    merged["end"] = np.maximum.reduceat(notes["end"], firsts)
    merged["velocity"] = np.maximum.reduceat(notes["velocity"], firsts)
    same_pitch = merged["pitch"][:-1] == merged["pitch"][1:]
    next_start = np.where(same_pitch, merged["start"][1:], np.inf)
    merged["end"][:-1] = np.minimum(merged["end"][:-1], next_start)
    return merged[np.lexsort((merged["pitch"], merged["start"]))]


def _load(path: str | Path) -> MidiData | midi_compiled.Events:
    content = _content(path)
    return midi_compiled.read(content) or _parsed(path, content)


def _content(path: str | Path) -> bytes:
    place = printable(path)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would block
            raise UserError(f"{place}: not a file")
        if status.st_size > MAX_BYTES:
            raise UserError(
                f"{place}: {status.st_size} bytes, but a MIDI file may have at most {MAX_BYTES}"
            )
        with open(path, "rb") as file:
            return file.read(MAX_BYTES)
    except OSError as e:
        raise UserError(f"{place}: cannot be read ({e.strerror})") from e


def _parsed(path: str | Path, content: bytes) -> MidiData:
    try:
        return parse(content)
    except BrokenFile as e:
        raise UserError(f"{printable(path)}: not a readable MIDI file ({e})") from e


def _notes(
    path: str | Path,
    data: MidiData | midi_compiled.Events,
    sustain: bool,
    seconds_per_beat: float | None,
) -> np.ndarray:
    if seconds_per_beat is not None and data.division < 0:
        raise UserError(
            f"{printable(path)}: has SMPTE time and no beats, so its tempo cannot be set"
        )
    if isinstance(data, midi_compiled.Events):
        times, details, end = data.notes(sustain, seconds_per_beat)
        _check_length(path, end)
        notes = np.empty(len(times), NOTES)
        notes["start"], notes["end"] = times.T
        notes["pitch"], notes["velocity"] = details.T
        return notes
    if any(m.type == "set_tempo" and not m.tempo for track in data.tracks for _, m in track):
        warnings.warn(f"{printable(path)}: a tempo of 0 is ignored", stacklevel=3)
    events = _events(data, seconds_per_beat)
    end = events[-1][0] if events else 0.0
    _check_length(path, end)
    notes = np.array(pair(events, sustain), NOTES)
    notes["end"] = np.minimum(notes["end"], end)
    return notes


def _check_length(path: str | Path, end: float) -> None:
    if end > MAX_SECONDS:
        raise UserError(
            f"{printable(path)}: lasts {end / 3600:.0f} hours, but at most "
            f"{MAX_SECONDS / 3600:.0f} are allowed; a delta time is probably corrupt"
        )


def _in_playing_order(data: MidiData) -> list[tuple[int, int, mido.Message]]:
    """(tick, track, message), sorted by tick. Messages of one track keep their order."""
    events: list[tuple[int, int, mido.Message]] = []
    start = 0
    for number, track in enumerate(data.tracks):
        if data.format == 2:  # the tracks follow each other, and each has its own tempo
            tempo = mido.MetaMessage("set_tempo", tempo=MICROSECONDS_PER_BEAT)
            events.append((start, number, tempo))
        events += [(start + tick, number, message) for tick, message in track]
        if data.format == 2 and track:
            start += track[-1][0]
    events.sort(key=lambda event: event[0])
    return events


def _events(
    data: MidiData, seconds_per_beat: float | None
) -> list[tuple[float, int, mido.Message]]:
    """(seconds, track, message) of note and controller messages in playing order."""
    tempo = MICROSECONDS_PER_BEAT if seconds_per_beat is None else seconds_per_beat * 1e6
    seconds_per_tick = _seconds_per_tick(data.division, tempo)
    clock, last_tick, events = 0.0, 0, []
    for tick, number, message in _in_playing_order(data):
        clock += (tick - last_tick) * seconds_per_tick
        last_tick = tick
        if message.type == "set_tempo":
            if seconds_per_beat is None and message.tempo:
                seconds_per_tick = _seconds_per_tick(data.division, message.tempo)
        elif not message.is_meta and message.channel != PERCUSSION_CHANNEL:
            events.append((clock, number, message))
    return events


def _beats(data: MidiData, seconds: float) -> float:
    """The number of quarter notes in the first `seconds` of a file."""
    seconds_per_tick = _seconds_per_tick(data.division, MICROSECONDS_PER_BEAT)
    clock, last_tick = 0.0, 0
    for tick, _, message in _in_playing_order(data):
        after = clock + (tick - last_tick) * seconds_per_tick
        if after >= seconds:
            break
        clock, last_tick = after, tick
        if message.type == "set_tempo" and message.tempo:
            seconds_per_tick = _seconds_per_tick(data.division, message.tempo)
    return (last_tick + (seconds - clock) / seconds_per_tick) / data.division


def _seconds_per_tick(division: int, tempo: float) -> float:
    if division > 0:
        return tempo * 1e-6 / division
    # SMPTE: the high byte is minus the frames per second, the low byte is the ticks per frame.
    # 29 means the 29.97 frames per second of television.
    frames, ticks = 256 - ((division >> 8) & 0xFF), division & 0xFF
    return 1.0 / ((30_000 / 1001 if frames == 29 else frames) * ticks)
