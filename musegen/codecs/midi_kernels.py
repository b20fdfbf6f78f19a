"""Compiled loops (Numba) over the bytes of a MIDI file, its events, and the times of messages.

`read_events` reads the bytes of an ordinary file; whatever is not ordinary it leaves to
`musegen.codecs.midi_file`. `pair_notes` does what `musegen.codecs.midi_pairing` describes, event by
event, in arrays. Both do the same arithmetic in the same order, so that times are equal bit by
bit. They are in one file because Numba's cache checks only the file of a function.

An event is (tick, track, kind, value). Its kind is the status byte of a note or of a controller, or
`SET_TEMPO` or `TIME_SIGNATURE`. Its value is the two data bytes, the tempo, or the two first bytes
of the signature.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from musegen.codecs.midi_file import CONTROLS
from musegen.codecs.midi_pairing import (
    ALL_SOUND_OFF,
    LARGE_GROUP,
    MAX_OVERLAP,
    RESET_CONTROLLERS,
    SUSTAIN_PEDAL,
)
from musegen.runtime.jit import can_cache

SET_TEMPO, TIME_SIGNATURE = 0x51, 0x58
NOTE_OFF, NOTE_ON, CONTROL = 0x80, 0x90, 0xB0
PERCUSSION = 9
VOICES_PER_TRACK = 16 * 128
NOT_ORDINARY = -1
IS_CONTROL = np.array([c in CONTROLS for c in range(128)])


SETTINGS: Any = {"nogil": True, "error_model": "numpy", "cache": can_cache(lambda: None)}


@njit(**SETTINGS)
def read_number(data, position, end):
    """(value, position after it) of a number of variable length, of at most four bytes."""
    value = 0
    for at in range(position, min(position + 4, end)):
        value = value << 7 | int(data[at] & 0x7F)
        if data[at] < 0x80:
            return value, at + 1
    return value, NOT_ORDINARY


@njit(**SETTINGS)
def big_endian(data, position, count):
    """The number in `count` bytes."""
    value = 0
    for at in range(position, position + count):
        value = value << 8 | int(data[at])
    return value


@njit(**SETTINGS)
def read_events(data, ticks, tracks, kinds, values):
    """Fill the events of all tracks, from byte 14 on: (number of events, number of tracks).

    Raises no error: the number is `NOT_ORDINARY` unless the tracks follow each other without
    a gap up to the end of the data, and each ends with its only End of Track.
    """
    position, n, track = 14, 0, 0
    while position < len(data):
        if position + 8 > len(data) or big_endian(data, position, 4) != 0x4D54726B:  # MTrk
            return NOT_ORDINARY, track
        start = position + 8
        end = start + big_endian(data, position + 4, 4)
        if end > len(data):
            return NOT_ORDINARY, track
        n = read_track(data, start, end, track, n, ticks, tracks, kinds, values)
        if n == NOT_ORDINARY:
            return NOT_ORDINARY, track
        position, track = end, track + 1
    return n, track


@njit(**SETTINGS)
def read_track(data, position, end, track, n, ticks, tracks, kinds, values):
    """Add the events of one track to the n before: their number, or `NOT_ORDINARY`."""
    tick, running = 0, 0
    while position < end:
        delta, position = read_number(data, position, end)
        if position == NOT_ORDINARY or position >= end:
            return NOT_ORDINARY
        tick += delta
        status = int(data[position])
        if status >= 0x80:
            position += 1
        else:
            status = running
        if status < 0x80:
            return NOT_ORDINARY  # running status without a status
        if status < 0xF0:
            running = status
            size = 1 if 0xC0 <= status < 0xE0 else 2
            if position + size > end or data[position] | data[position + size - 1] > 127:
                return NOT_ORDINARY
            kind = status & 0xF0
            if kind <= NOTE_ON or (kind == CONTROL and IS_CONTROL[data[position]]):
                ticks[n], tracks[n], kinds[n] = tick, track, status
                values[n] = big_endian(data, position, 2)
                n += 1
            position += size
            continue
        meta = -1
        if status == 0xFF and position < end:
            meta = int(data[position])
            position += 1
        elif status not in (0xF0, 0xF7):
            return NOT_ORDINARY
        size, position = read_number(data, position, end)
        if position == NOT_ORDINARY or position + size > end:
            return NOT_ORDINARY
        if meta == 0x2F:
            return n if position == end and size == 0 else NOT_ORDINARY
        found = meta_value(data, position, size, meta)
        if found == NOT_ORDINARY:
            return NOT_ORDINARY
        if found > 0:
            ticks[n], tracks[n], kinds[n], values[n] = tick, track, meta, found
            n += 1
        position += size
    return NOT_ORDINARY  # no End of Track


@njit(**SETTINGS)
def meta_value(data, position, size, meta):
    """The value of a tempo or of a time signature; 0 for a meta message that is not used."""
    if meta == SET_TEMPO:
        tempo = big_endian(data, position, 3) if size == 3 else 0
        return tempo if tempo > 0 else NOT_ORDINARY
    if meta == TIME_SIGNATURE and size >= 2 and data[position] > 0 and data[position + 1] < 8:
        return big_endian(data, position, 2)
    return 0


@njit(**SETTINGS)
def event_seconds(ticks, kinds, values, division, tempo, fixed, seconds):
    """Fill the time of each event in playing order, at the file's tempos unless `fixed`."""
    seconds_per_tick = tempo * 1e-6 / division
    clock, last_tick = 0.0, 0
    for i in range(len(ticks)):
        clock += (ticks[i] - last_tick) * seconds_per_tick
        last_tick = ticks[i]
        seconds[i] = clock
        if kinds[i] == SET_TEMPO and not fixed:
            seconds_per_tick = values[i] * 1e-6 / division


# --- Classes of times -------------------------------------------------------------------------


@njit(**SETTINGS)
def carried_classes(times, values, edges, classes):
    """`TimeGrid._carried`: the class of each time, its error carried to the next one."""
    carried, longest = 0.0, values[-1]
    for i in range(len(times)):
        time = min(times[i], longest)
        low = 0
        if time > 0:
            wanted, high = time + carried, len(edges)
            while low < high:
                middle = (low + high) // 2
                if edges[middle] < wanted:
                    low = middle + 1
                else:
                    high = middle
            if low == 0 and time >= values[1]:
                low = 1
            carried += time - values[low]
        classes[i] = low


# --- Pairing ----------------------------------------------------------------------------------
# A voice is a track, a channel and a pitch; its number is (track · 16 + channel) · 128 + pitch.

DUE, EARLY, FIRST, LAST, BEFORE, AFTER = range(6)
"""Of a voice: releases that are still to come; whether the release of the sounding note came just
before its onset; its first and last node; its neighbours in the ring of sounding voices."""
NEXT, VELOCITY, PEDAL, PENDING, FINAL = range(5)
"""Of a node, which is an onset, or a release (velocity 0), since the voice was last silent: the
next one of its voice, and what `midi_pairing._Event` has."""
NODES, ROWS, PEDALS = range(3)
"""What is counted. ROWS are finished notes; a pedal is one use of the pedal."""
NONE = -1


class State(NamedTuple):
    """The arrays that pairing changes. The last 16 voices begin the rings of the channels."""

    voices: Any
    ignored: Any
    nodes: Any
    seconds: Any
    pedal_down: Any
    released: Any
    counts: Any


@njit(**SETTINGS)
def pair_notes(seconds, tracks, kinds, values, num_tracks, sustain, times, details):
    """Fill the notes of events in playing order: (number of notes, time of the last event).

    A row of `times` is (start, end), a row of `details` (pitch, velocity, pedal).
    """
    n, rings = len(seconds), num_tracks * VOICES_PER_TRACK
    state = State(
        np.zeros((rings + 16, 6), np.int64), np.full(rings, -1.0),
        np.empty((2 * n, 5), np.int64), np.empty(2 * n),
        np.full(16, NONE), np.full(n + 1, np.inf), np.zeros(3, np.int64),
    )  # fmt: skip
    for ring in range(rings, rings + 16):
        state.voices[ring, BEFORE] = state.voices[ring, AFTER] = ring
    end = 0.0
    for i in range(n):
        channel, number, value = kinds[i] & 0x0F, values[i] >> 8, values[i] & 0xFF
        if kinds[i] < NOTE_OFF or channel == PERCUSSION:
            continue
        end = seconds[i]
        if kinds[i] >= CONTROL:
            control(state, end, channel, rings, number, value, sustain, times, details)
            continue
        voice = (tracks[i] * 16 + channel) * 128 + number
        if kinds[i] >= NOTE_ON and value > 0:
            onset(state, end, voice, rings + channel, value)
        elif state.voices[voice, DUE] > 0:
            state.voices[voice, DUE] -= 1
            add_node(state, voice, end, 0, state.pedal_down[channel], 0, 0)
            if state.voices[voice, DUE] == 0:
                finish(state, voice, times, details)
        else:
            state.ignored[voice] = end
    for voice in range(rings):
        if state.voices[voice, DUE] > 0:
            finish(state, voice, times, details)
    rows = state.counts[ROWS]
    for row in range(rows):
        if details[row, 2] >= 0:
            times[row, 1] = state.released[details[row, 2]]
        times[row, 1] = min(times[row, 1], end)
    return rows, end


@njit(**SETTINGS)
def onset(state, now, voice, ring, velocity):
    """Add an onset, and the voice to the ring of those that sound."""
    due, early = state.voices[voice, DUE], state.voices[voice, EARLY]
    pending = due > 0 and not early
    state.voices[voice, EARLY] = due == 0 and state.ignored[voice] == now
    if due == 0:
        last = state.voices[ring, BEFORE]
        state.voices[voice, BEFORE], state.voices[voice, AFTER] = last, ring
        state.voices[last, AFTER] = state.voices[ring, BEFORE] = voice
        state.voices[voice, FIRST] = NONE
    if pending or due == 0:
        state.voices[voice, DUE] = due + 1
    add_node(state, voice, now, velocity, NONE, pending, 0)


@njit(**SETTINGS)
def add_node(state, voice, now, velocity, pedal, pending, final):
    """Append a node to those of a sounding voice."""
    node = state.counts[NODES]
    state.counts[NODES] += 1
    state.seconds[node] = now
    state.nodes[node, NEXT], state.nodes[node, VELOCITY] = NONE, velocity
    state.nodes[node, PEDAL], state.nodes[node, PENDING] = pedal, pending
    state.nodes[node, FINAL] = final
    if state.voices[voice, FIRST] == NONE:
        state.voices[voice, FIRST] = node
    else:
        state.nodes[state.voices[voice, LAST], NEXT] = node
    state.voices[voice, LAST] = node


@njit(**SETTINGS)
def control(state, now, channel, rings, number, value, sustain, times, details):
    """The pedal, or the end of all notes of a channel."""
    down = state.pedal_down[channel]
    if number in (SUSTAIN_PEDAL, RESET_CONTROLLERS):
        if number == RESET_CONTROLLERS or value < 64:
            if down >= 0:
                state.released[down] = now
            state.pedal_down[channel] = NONE
        elif sustain and down < 0:
            press(state, channel)
        return
    if number == ALL_SOUND_OFF and down >= 0:  # the player keeps the pedal down
        state.released[down] = now
        down = NONE
        press(state, channel)
    ring = rings + channel
    while state.voices[ring, AFTER] != ring:
        voice = state.voices[ring, AFTER]
        state.voices[voice, DUE] = 0
        add_node(state, voice, now, 0, down, 0, 1)
        finish(state, voice, times, details)


@njit(**SETTINGS)
def press(state, channel):
    """Begin another use of the pedal."""
    state.pedal_down[channel] = state.counts[PEDALS]
    state.counts[PEDALS] += 1


@njit(**SETTINGS)
def finish(state, voice, times, details):
    """Make notes of the nodes of a voice, which no longer sounds."""
    before, after = state.voices[voice, BEFORE], state.voices[voice, AFTER]
    state.voices[before, AFTER], state.voices[after, BEFORE] = after, before
    nodes, seconds, first = state.nodes, state.seconds, state.voices[voice, FIRST]
    balanced = state.voices[voice, DUE] == 0 and overlaps(nodes, seconds, first)
    started, pending, previous_length, node = NONE, 0, 0.0, first
    while node != NONE:
        if nodes[node, VELOCITY] > 0:
            if started != NONE:
                previous_length = seconds[node] - seconds[started]
                add_note(state, voice, started, seconds[node], NONE, times, details)
            pending += nodes[node, PENDING]
            started = node
        elif started != NONE:
            length = seconds[node] - seconds[started]
            if pending > 0 and not nodes[node, FINAL] and (
                balanced or length <= MAX_OVERLAP * previous_length
            ):  # fmt: skip
                pending -= 1  # the release of a note that a later onset has ended
            else:
                add_note(state, voice, started, seconds[node], nodes[node, PEDAL], times, details)
                started = NONE
                pending = pending if balanced else 0
        node = nodes[node, NEXT]
    if started != NONE:
        add_note(state, voice, started, np.inf, NONE, times, details)


@njit(**SETTINGS)
def add_note(state, voice, started, end, pedal, times, details):
    """Add a finished note."""
    row = state.counts[ROWS]
    state.counts[ROWS] += 1
    times[row, 0], times[row, 1] = state.seconds[started], end
    details[row, 0], details[row, 1] = voice % 128, state.nodes[started, VELOCITY]
    details[row, 2] = pedal


@njit(**SETTINGS)
def overlaps(nodes, seconds, first):
    """Whether the notes of a group overlap: whether most releases are nearer to the onset before
    them. The median is found by counting: how many fractions are below ½, and those next to it."""
    onsets, count, below, left, right = 0, 0, 0, -np.inf, np.inf
    node, previous = first, NONE
    while node != NONE:
        following = nodes[node, NEXT]
        onsets += nodes[node, VELOCITY] > 0
        if (
            nodes[node, VELOCITY] == 0 and previous != NONE and following != NONE
            and nodes[previous, VELOCITY] > 0 and nodes[following, VELOCITY] > 0
        ):  # fmt: skip
            span = max(seconds[following] - seconds[previous], 1e-9)
            fraction = (seconds[node] - seconds[previous]) / span
            count += 1
            if fraction < 0.5:
                below += 1
                left = max(left, fraction)
            else:
                right = min(right, fraction)
        previous, node = node, following
    if onsets <= LARGE_GROUP or count == 0:
        return True
    if 2 * below == count:
        return (left + right) / 2 < 0.5
    return 2 * below > count
