"""A score that music21 has parsed → a MIDI file, in a time proportional to its length.

The files are read as those of music21's own writer are, note for note. That writer copies and
searches a whole part for each repeat and each tie, so that a long movement takes it many minutes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from fractions import Fraction
from itertools import accumulate, pairwise
from math import inf
from typing import Any, NamedTuple

import mido

TICKS_PER_BEAT = 10080
"""As in music21's files: triplets, quintuplets and septuplets are exact."""
MAX_PLAYED = 4
"""How often a measure may be played. If the start of a repeat is missing, music21 goes back to the
beginning of the piece, with all repeats on the way: eight times in Beethoven's op. 18 no. 4."""
CHANNELS = [c for c in range(16) if c != 9]
"""Those for pitched instruments."""
Beats = float | Fraction
"""A number of quarter notes. music21's `opFrac` makes it a fraction where a float is not exact."""
Timed = tuple[int, mido.Message | mido.MetaMessage]
"""A tick and a message."""


class Placed(NamedTuple):
    """An element of a score and its onset. A repeated one is there each time that it is played."""

    onset: Beats
    element: Any


def score_to_midi(score: Any) -> mido.MidiFile:
    """The MIDI file of a score of parts with measures: a track with the tempo, then the parts.

    Repeats are played, ties are joined, and dynamics and articulations become velocities. Raises
    music21's `ExpanderException` for repeats that cannot be played, or too often (`MAX_PLAYED`).
    """
    parts = list(score.parts)
    contents = [played(part) for part in parts]
    tracks = [_conductor_track(contents)]
    for number, (part, elements) in enumerate(zip(parts, contents, strict=True)):
        channel = CHANNELS[number % len(CHANNELS)]
        track = _start(part, channel)
        _append(track, _note_messages(elements, channel))
        tracks.append(track)
    return mido.MidiFile(ticks_per_beat=TICKS_PER_BEAT, tracks=tracks)


def played(part: Any) -> list[Placed]:
    """What is in the measures of a part, in the order in which it is played."""
    from music21.common import opFrac

    measures = list(part.getElementsByClass("Measure"))
    contents = [[(element.offset, element) for element in m.flatten()] for m in measures]
    found = [
        Placed(opFrac(start + offset), element)
        for start, number in _playing_order(part, measures)
        for offset, element in contents[number]
    ]
    # A measure may be too full; then the next one begins before its end. This is music21's order.
    found.sort(key=lambda p: (p.onset, p.element.priority, p.element.classSortOrder))
    return found


def _playing_order(part: Any, measures: list) -> list[tuple[Beats, int]]:
    """(start, index) of the measures, in the order in which they are played.

    music21 copies each measure that is played again. So it gets empty measures here.
    """
    from music21 import repeat, spanner, stream

    skeleton = stream.Part()
    empty = {}
    for number, measure in enumerate(measures):
        copy = empty[id(measure)] = stream.Measure(number=measure.number)
        copy.id = str(number)
        copy.duration = deepcopy(measure.duration)
        copy.leftBarline = deepcopy(measure.leftBarline)
        copy.rightBarline = deepcopy(measure.rightBarline)
        for sign in measure.getElementsByClass(repeat.RepeatExpression):
            copy.insert(0, deepcopy(sign))
        skeleton.insert(measure.getOffsetBySite(part), copy)
    for bracket in part.getElementsByClass(spanner.RepeatBracket):
        spanned = [empty[id(m)] for m in bracket.getSpannedElements() if id(m) in empty]
        skeleton.insert(0, spanner.RepeatBracket(spanned, number=bracket.number))
    expanded = repeat.Expander(skeleton).process()
    order = [(expanded.elementOffset(m), int(m.id)) for m in expanded]
    most = max(Counter(number for _, number in order).values())
    if most > MAX_PLAYED:
        raise repeat.ExpanderException(f"a measure would be played {most} times")
    return order


def _conductor_track(parts: list[list[Placed]]) -> mido.MidiTrack:
    """The track with the tempos and the time signatures of all parts."""
    tempos = [
        (_ticks(onset), mido.MetaMessage("set_tempo", tempo=tempo))
        for onset, mark in _signs(parts, "MetronomeMark")
        if (tempo := _microseconds_per_beat(mark))
    ]
    signatures = [
        (_ticks(onset), mido.MetaMessage("time_signature", numerator=n, denominator=d))
        for onset, sign in _signs(parts, "TimeSignature")
        for n, d in [(sign.numerator, sign.denominator)]
    ]
    track = mido.MidiTrack()
    _append(track, [*tempos, *signatures])
    return track


def _signs(parts: list[list[Placed]], kind: str) -> Iterator[Placed]:
    """The elements of a class in each part, without those that another one of it stands above."""
    last: Beats = -1
    for elements in parts:
        for placed in elements:
            if kind in placed.element.classes:
                if placed.onset > last:
                    yield placed
                last = placed.onset


def _microseconds_per_beat(mark: Any) -> int | None:
    """The tempo of a metronome mark; None for a mark without a number."""
    if mark.number is None and mark.numberSounding is None:
        return None
    return round(60_000_000 / mark.getSoundingMetronomeMark().getQuarterBPM())


def _start(part: Any, channel: int) -> mido.MidiTrack:
    """A track that has only the instrument of a part."""
    track = mido.MidiTrack()
    if (instrument := part.getElementsByClass("Instrument").first()) is not None:
        name = (instrument.bestName() or "").encode("latin1", "ignore").decode("latin1")
        track.append(mido.MetaMessage("track_name", name=name))
        if (program := instrument.midiProgram) is not None:
            track.append(mido.Message("program_change", program=program, channel=channel))
    return track


def _note_messages(elements: list[Placed], channel: int) -> list[Timed]:
    """(tick, message) of the notes of a part."""
    notes = [p for p in elements if "GeneralNote" in p.element.classes]
    found: list[Timed] = []
    for (onset, note), length, dynamic in zip(
        notes, without_ties(notes), _dynamics(elements, notes), strict=True
    ):
        if length is None or "NotRest" not in note.classes:
            continue
        velocity = round(note.volume.getRealized(useDynamicContext=dynamic) * 127)
        pitches = [pitch.midi for pitch in note.pitches]
        start = _ticks(onset)
        end = start + _ticks(length)
        for tick, kind, value in ((start, "note_on", velocity), (end, "note_off", 0)):
            found += [
                (tick, mido.Message(kind, channel=channel, note=pitch, velocity=value))
                for pitch in pitches
            ]
    return found


def _dynamics(elements: list[Placed], notes: list[Placed]) -> list[Any]:
    """The dynamic that is valid for each note, such as f; False if there is none yet.

    The ends are rounded as in music21's `realizeVolume`. In triplets a dynamic can end 1e-14 beats
    after the next one starts. Then a note that starts with the next one still has the first.
    """
    from music21.common import opFrac

    signs = [p for p in elements if "Dynamic" in p.element.classes]
    starts = [sign.onset for sign in signs]
    ends = [start + opFrac(after - start) for start, after in pairwise(starts)]
    # One of several signs at the same place ends at once, perhaps before the sign before it.
    ends = [*accumulate(ends, max), inf]
    numbers = [bisect_right(ends, note.onset) for note in notes]
    return [
        signs[n].element if signs and starts[n] <= note.onset else False
        for n, note in zip(numbers, notes, strict=True)
    ]


def without_ties(notes: list[Placed]) -> list[Beats | None]:
    """The length of each note and rest of a part; None for a note that a tie adds to another one.

    These are the rules of music21's `stripTies`. Of voices that sound together it reads the notes
    by turns. So it joins a note to the one before only if no other note is between them.
    """
    from music21.common import opFrac

    lengths: list[Beats | None] = [note.quarterLength for _, note in notes]
    chain: list[int] = []
    """The notes that are tied to each other so far. It waits for its last note."""
    previous = -1
    for number in [n for n, length in enumerate(lengths) if length]:
        note = notes[number].element
        kind = note.tie.type if note.tie is not None else None
        follows = bool(chain) and chain[-1] == previous
        repeated = follows and _same_pitches(notes[previous].element, note)
        previous = number
        if kind == "start":
            chain = [*chain, number] if follows else [number]
        elif kind == "continue":
            chain = [*chain, number] if repeated else [number]
        elif repeated or (kind == "stop" and "Chord" not in note.classes):
            first, *others = [*chain, number]
            lengths[first] = opFrac(sum((lengths[n] or 0 for n in others), lengths[first] or 0))
            for n in others:
                lengths[n] = None
            chain = []
    return lengths


def _same_pitches(last: Any, note: Any) -> bool:
    """Whether a note or chord has the same pitches as the one before."""
    if "Note" in note.classes:
        return "Note" in last.classes and last.pitch == note.pitch
    pairs = list(zip(last.pitches, note.pitches, strict=False))
    return len(last.pitches) == len(note.pitches) and all(
        a.step == b.step and a.isEnharmonic(b) for a, b in pairs
    )


def _ticks(beats: Beats) -> int:
    return round(beats * TICKS_PER_BEAT)


def _append(track: mido.MidiTrack, messages: list[Timed]) -> None:
    """Append messages to a track that has only messages at its start. Releases come first."""
    clock = 0
    for tick, message in sorted(messages, key=lambda m: (m[0], m[1].type != "note_off")):
        message.time = tick - clock
        track.append(message)
        clock = tick
