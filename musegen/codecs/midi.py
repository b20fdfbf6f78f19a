"""MIDI files ↔ notes in seconds, read with mido and bounded against hostile files.

A piece is a `NOTES` array: one row per note, in the canonical order of (start, pitch). Channels
are merged, percussion (channel 10) is left out, and a pitch never overlaps itself: struck again
while it sounds, it is cut at the new onset.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mido
import numpy as np
from mido.midifiles import meta

from musegen.errors import UserError
from musegen.runtime.atomic import replacing

NOTES = np.dtype([("start", "f8"), ("end", "f8"), ("pitch", "u1"), ("velocity", "u1")])
"""Columns of a piece: start and end in seconds, MIDI pitch 0–127, velocity 1–127."""

MAX_BYTES = 4 << 20
"""Ten times the largest file of MAESTRO; mido turns each two bytes into a 500-byte object."""
MAX_SECONDS = 6 * 3600.0
"""Longer than any real piece; one forged delta of 2²⁸ ticks is days at common tempos."""

PERCUSSION_CHANNEL = 9
SUSTAIN_PEDAL = 64
TICKS_PER_BEAT = 500
MICROSECONDS_PER_BEAT = 500_000
TICKS_PER_SECOND = TICKS_PER_BEAT * 1_000_000 // MICROSECONDS_PER_BEAT
"""Files are written with a tick of one millisecond."""


def read_notes(
    path: str | Path,
    *,
    sustain: bool = False,
    seconds_per_beat: float | None = None,
    overlapping: bool = False,
) -> np.ndarray:
    """Notes of a MIDI file, in seconds, every channel but percussion.

    Tempo changes are respected (SMPTE divisions too), a note_on of velocity 0 ends a note, and
    a note that is never released ends with the last event. With `sustain`, notes released while
    the pedal (controller 64 ≥ 64) is down last until it is lifted or the pitch is struck again.
    With `seconds_per_beat` every quarter note lasts so long, whatever tempo the file asks for.
    With `overlapping` a pitch that sounds in two parts at once stays two notes, in no order.

    Raises `UserError` for a file that cannot be read, is larger than 4 MiB or longer than six
    hours. A readable file without notes gives an empty array.
    """
    try:
        size = os.path.getsize(path)
        if size > MAX_BYTES:
            raise UserError(f"{path}: {size} bytes, but a MIDI file may have {MAX_BYTES}")
        with _ignoring_unused_meta_messages():
            file = mido.MidiFile(path, clip=True)
        if seconds_per_beat is not None and file.ticks_per_beat < 0:
            raise UserError(f"{path}: counts SMPTE frames, not beats; its tempo cannot be set")
        events = _events(file, seconds_per_beat)
    except UserError:
        raise
    except EOFError as e:
        raise UserError(f"{path}: not a readable MIDI file (it ends too early)") from e
    except Exception as e:  # mido raises whatever its byte arithmetic runs into
        raise UserError(f"{path}: not a readable MIDI file ({type(e).__name__}: {e})") from e
    if events and events[-1][0] > MAX_SECONDS:
        raise UserError(
            f"{path}: claims to last {events[-1][0] / 3600:.0f} hours, but "
            f"{MAX_SECONDS / 3600:.0f} are allowed; a delta time is probably corrupt"
        )
    notes = _pair(events, sustain)
    return notes if overlapping else tidy(notes)


def read_prime(path: str | Path, seconds: float | None = None) -> np.ndarray:
    """The notes that begin in a MIDI file's first `seconds`, cut there; null takes all.

    Raises `UserError` as `read_notes` does, and for seconds that are not above 0.
    """
    if seconds is not None and not seconds > 0:
        raise UserError(f"prime_seconds={seconds}: must be above 0")
    notes = read_notes(path)
    if seconds is None:
        return notes
    notes = notes[notes["start"] < seconds]
    notes["end"] = notes["end"].clip(max=seconds)
    return notes


def write_notes(notes: np.ndarray, path: str | Path) -> None:
    """Write notes as a one-track MIDI file, times rounded to milliseconds, atomically."""
    notes = tidy(_on_grid(notes))
    onsets = [(n["start"], 1, n["pitch"], n["velocity"]) for n in notes]
    releases = [(n["end"], 0, n["pitch"], 0) for n in notes]
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=MICROSECONDS_PER_BEAT)])
    clock = 0
    for seconds, _, pitch, velocity in sorted(onsets + releases):  # releases before onsets
        tick = round(float(seconds) * TICKS_PER_SECOND)
        track.append(
            mido.Message("note_on", note=int(pitch), velocity=int(velocity), time=tick - clock)
        )
        clock = tick
    track.append(mido.MetaMessage("end_of_track"))
    with replacing(path, "wb") as file:
        mido.MidiFile(type=0, ticks_per_beat=TICKS_PER_BEAT, tracks=[track]).save(file=file)


def tidy(notes: np.ndarray) -> np.ndarray:
    """The canonical form: sorted by (start, pitch), no empty note, no pitch overlapping itself.

    A later onset cuts the earlier note of the same pitch; of two notes of one pitch with the
    same onset one remains, with the longer duration and the greater velocity.
    """
    notes = notes[notes["end"] > notes["start"]]
    if not len(notes):
        return notes
    notes = notes[np.lexsort((notes["start"], notes["pitch"]))]
    first = np.r_[
        True, (np.diff(notes["start"]) > 0) | (np.diff(notes["pitch"].astype(np.int16)) > 0)
    ]
    heads = np.flatnonzero(first)
    merged = notes[heads]
    merged["end"] = np.maximum.reduceat(notes["end"], heads)
    merged["velocity"] = np.maximum.reduceat(notes["velocity"], heads)
    same_pitch = merged["pitch"][:-1] == merged["pitch"][1:]
    next_start = np.where(same_pitch, merged["start"][1:], np.inf)
    merged["end"][:-1] = np.minimum(merged["end"][:-1], next_start)
    return merged[np.lexsort((merged["pitch"], merged["start"]))]


def _on_grid(notes: np.ndarray) -> np.ndarray:
    rounded = notes.copy()
    for column in ("start", "end"):
        rounded[column] = np.round(notes[column] * TICKS_PER_SECOND) / TICKS_PER_SECOND
    return rounded


@contextmanager
def _ignoring_unused_meta_messages() -> Iterator[None]:
    """Read over SMPTE offsets and key signatures, which we do not use.

    mido rejects the whole file for a value outside their ranges even with clip=True; nearly
    half of MuseData's files carry such an offset. Without a spec it keeps the bytes unread.
    """
    unused = {b: meta._META_SPECS.pop(b) for b in (0x54, 0x59) if b in meta._META_SPECS}
    try:
        yield
    finally:
        meta._META_SPECS.update(unused)


def _events(
    file: mido.MidiFile, seconds_per_beat: float | None
) -> list[tuple[float, int, mido.Message]]:
    """(seconds, track, message) of note and pedal messages in playing order."""
    ticked: list[tuple[int, int, mido.Message]] = []
    start = 0
    for number, track in enumerate(file.tracks):
        tick = start
        for message in track:
            tick += message.time
            if message.type in ("note_on", "note_off", "set_tempo") or (
                message.type == "control_change" and message.control == SUSTAIN_PEDAL
            ):
                ticked.append((tick, number, message))
        if file.type == 2:  # independent sequences: one after the other
            start = tick
    ticked.sort(key=lambda event: event[0])  # stable: the order within a track is kept

    tempo = MICROSECONDS_PER_BEAT if seconds_per_beat is None else seconds_per_beat * 1e6
    seconds_per_tick = _seconds_per_tick(file.ticks_per_beat, tempo)
    clock, last_tick, events = 0.0, 0, []
    for tick, number, message in ticked:
        clock += (tick - last_tick) * seconds_per_tick
        last_tick = tick
        if message.type == "set_tempo":
            if seconds_per_beat is None:
                seconds_per_tick = _seconds_per_tick(file.ticks_per_beat, message.tempo)
        elif message.channel != PERCUSSION_CHANNEL:
            events.append((clock, number, message))
    return events


def _seconds_per_tick(division: int, tempo: float) -> float:
    if division > 0:
        return tempo * 1e-6 / division
    # Negative: SMPTE, minus the frames per second in the high byte, ticks per frame in the low.
    frames, ticks = 256 - ((division >> 8) & 0xFF), division & 0xFF
    return 1.0 / (frames * ticks)


def _pair(events: list[tuple[float, int, mido.Message]], sustain: bool) -> np.ndarray:
    """Match onsets with releases, for each track, channel and pitch.

    Tracks are kept apart, since two violins may share a channel and a pitch. A pitch struck
    again before its release is cut there: matching releases in the order of their onsets would
    let one lost release lengthen every later note of that pitch.
    """
    rows: list[list[float]] = []
    sounding: dict[tuple[int, int, int], int] = {}
    held: defaultdict[int, list[int]] = defaultdict(list)  # released under the pedal
    pedal: set[int] = set()
    row: int | None
    for seconds, track, m in events:
        if m.type == "control_change":
            if m.value >= 64 and sustain:
                pedal.add(m.channel)
            else:
                pedal.discard(m.channel)
                for under_pedal in held.pop(m.channel, ()):
                    rows[under_pedal][1] = seconds
            continue
        row = sounding.pop((track, m.channel, m.note), None)
        struck = m.type == "note_on" and m.velocity > 0
        if row is not None and m.channel in pedal and not struck:
            held[m.channel].append(row)
        elif row is not None:
            rows[row][1] = seconds
        if struck:
            sounding[track, m.channel, m.note] = len(rows)
            rows.append([seconds, np.inf, m.note, m.velocity])
    end = events[-1][0] if events else 0.0
    notes = np.array([tuple(row) for row in rows], NOTES)
    notes["end"] = np.minimum(notes["end"], end)
    return notes
