"""Which release ends which note.

A MIDI release does not say to which onset it belongs. For each track, channel and pitch the rules
are:

- If a pitch is played again while it sounds, the first note ends at the new onset. The next
  release belongs to the first note and does not end the new one. This is right for files with
  onsets before releases at the same tick, and for legato notes that overlap by a few ticks.
- If a group of overlapping notes has as many releases as onsets, each note has its own release, in
  the order of the onsets.
- If it has fewer, a release is missing. Then a release belongs to the first note only if it comes
  soon after the new onset. So a missing release makes one note longer, and no other note. This
  rule also applies to a large group in which most releases are nearer to the next onset than to
  the onset before: its notes do not overlap, and the numbers are equal because of an extra release.
- A release while the pitch does not sound is ignored, with one exception: an onset follows at the
  same time, and the pitch is played again before another release. Then it was the release of that
  onset. (music21 writes grace notes with the release first.)

Each track is treated separately, because two violins can share a channel and a pitch. The sustain
pedal and the messages that end all notes of a channel apply to all tracks, as in an instrument.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median

import mido

SUSTAIN_PEDAL, ALL_SOUND_OFF, RESET_CONTROLLERS = 64, 120, 121
MAX_OVERLAP = 1 / 8
"""A release belongs to the first note if it comes within this fraction of that note's length."""

LARGE_GROUP = 8
"""A group with more onsets is checked: its releases must look like those of overlapping notes."""

NoteRow = tuple[float, float, int, int]
"""(start, end, pitch, velocity); the end is infinite for a note without a release."""


@dataclass(slots=True)
class _Pedal:
    """One use of the pedal. Notes released while it is down end when it is released."""

    released_at: float = math.inf


@dataclass(slots=True)
class _Event:
    """An onset, or a release (velocity 0)."""

    seconds: float
    velocity: int
    pedal: _Pedal | None = None
    """The pedal that was down at a release."""
    pending: bool = False
    """For an onset: the release of the note before it is still to come."""
    final: bool = False
    """For a release: it ends the sounding note, even if other releases are still to come."""


@dataclass(slots=True)
class _Voice:
    """The events of one track, channel and pitch since the pitch was last silent."""

    events: list[_Event] = field(default_factory=list)
    due: int = 0
    """The number of releases that are still to come."""
    ignored_release: float = -1.0
    """The time of the last release while the pitch did not sound."""
    released_early: bool = False
    """The release of the sounding note came just before its onset."""

    def add_onset(self, seconds: float, velocity: int) -> None:
        pending = self.due > 0 and not self.released_early
        self.released_early = self.due == 0 and self.ignored_release == seconds
        self.due += pending or self.due == 0
        self.events.append(_Event(seconds, velocity, pending=pending))

    def add_release(self, seconds: float, pedal: _Pedal | None, final: bool = False) -> None:
        if self.due:
            self.due = 0 if final else self.due - 1
            self.events.append(_Event(seconds, 0, pedal, final=final))
        else:
            self.ignored_release = seconds

    def notes(self) -> Iterator[tuple[float, _Event, _Event | None]]:
        """(start, onset, event that ends the note); None for a note that still sounds.

        The events are removed.
        """
        events, self.events = self.events, []
        balanced = self.due == 0 and _overlaps(events)
        onset: _Event | None = None
        pending, previous_length = 0, 0.0
        for event in events:
            if event.velocity:
                if onset is not None:
                    previous_length = event.seconds - onset.seconds
                    yield onset.seconds, onset, event
                pending += event.pending
                onset = event
            elif onset is None:
                continue
            elif pending and not event.final and (
                balanced or event.seconds - onset.seconds <= MAX_OVERLAP * previous_length
            ):  # fmt: skip
                pending -= 1  # the release of a note that a later onset has ended
            else:
                yield onset.seconds, onset, event
                onset = None
                pending = pending if balanced else 0
        if onset is not None:
            yield onset.seconds, onset, None


def _overlaps(events: list[_Event]) -> bool:
    """Whether the notes of a group overlap. If not, the group is due to a missing release."""
    if sum(event.velocity > 0 for event in events) <= LARGE_GROUP:
        return True
    fractions = [
        (release.seconds - before.seconds) / max(after.seconds - before.seconds, 1e-9)
        for before, release, after in zip(events, events[1:], events[2:], strict=False)
        if before.velocity and not release.velocity and after.velocity
    ]
    return not fractions or median(fractions) < 1 / 2


class Pairing:
    """Collects messages in playing order and makes notes of them, by the rules above."""

    def __init__(self, sustain: bool) -> None:
        self.sustain = sustain
        self.voices: dict[tuple[int, int, int], _Voice] = defaultdict(_Voice)
        self.sounding: dict[int, set[tuple[int, int, int]]] = defaultdict(set)
        """The voices of each channel that sound."""
        self.pedals: dict[int, _Pedal] = {}
        self.finished: list[tuple[float, float, _Pedal | None, int, int]] = []

    def add(self, seconds: float, track: int, message: mido.Message) -> None:
        channel = message.channel
        if message.type == "control_change":
            self._add_control(seconds, channel, message.control, message.value)
            return
        key = track, channel, message.note
        voice = self.voices[key]
        if message.type == "note_on" and message.velocity:
            voice.add_onset(seconds, message.velocity)
            self.sounding[channel].add(key)
            return
        voice.add_release(seconds, self.pedals.get(channel))
        if not voice.due:
            self._finish(key)

    def _add_control(self, seconds: float, channel: int, control: int, value: int) -> None:
        if control in (SUSTAIN_PEDAL, RESET_CONTROLLERS):
            if control == RESET_CONTROLLERS or value < 64:
                self._release_pedal(seconds, channel)
            elif self.sustain:
                self.pedals.setdefault(channel, _Pedal())
            return
        pedal = self.pedals.get(channel)
        if control == ALL_SOUND_OFF and pedal is not None:  # the player keeps the pedal down
            self._release_pedal(seconds, channel)
            pedal = None
            self.pedals[channel] = _Pedal()
        for key in list(self.sounding[channel]):
            self.voices[key].add_release(seconds, pedal, final=True)
            self._finish(key)

    def _release_pedal(self, seconds: float, channel: int) -> None:
        if (pedal := self.pedals.pop(channel, None)) is not None:
            pedal.released_at = seconds

    def _finish(self, key: tuple[int, int, int]) -> None:
        for start, onset, end in self.voices[key].notes():
            end_seconds = math.inf if end is None else end.seconds
            pedal = None if end is None or end.velocity else end.pedal
            self.finished.append((start, end_seconds, pedal, key[2], onset.velocity))
        self.sounding[key[1]].discard(key)

    def notes(self) -> Iterator[NoteRow]:
        """All notes, after the last message."""
        for key in [key for keys in self.sounding.values() for key in keys]:
            self._finish(key)
        for start, end, pedal, pitch, velocity in self.finished:
            yield start, end if pedal is None else pedal.released_at, pitch, velocity


def pair(events: Iterable[tuple[float, int, mido.Message]], sustain: bool) -> list[NoteRow]:
    """The notes of (seconds, track, message) in playing order. They are not sorted."""
    pairing = Pairing(sustain)
    for seconds, track, message in events:
        pairing.add(seconds, track, message)
    return list(pairing.notes())
