"""Which release ends which note.

Note messages carry no number that ties a release to its onset. For each track, channel and pitch
the rules are:

- A pitch that is struck again while it sounds is cut at the new onset. The release that is still
  to come belongs to the note that was cut: it does not end the new one. Files sorted with onsets
  before releases, and legato that overlaps by a few ticks, are read so.
- Where a stretch of overlapping notes has as many releases as onsets, every note has its own, in
  the order of the onsets.
- Where it has fewer, some release was lost. Then only a release that follows the new onset closely
  belongs to the note that was cut, so that a lost release lengthens one note and no later one.
  The same holds for a long stretch whose releases tend to come nearer to the next onset than to
  the one before: there the notes do not overlap, and the counts agree because of a stray release.
- A release that comes to a silent pitch is ignored. Where an onset follows it in the same instant
  and is struck again before a release of its own, it was that note's release (a grace note as
  music21 writes it: release first).

Tracks are kept apart, since two violins may share a channel and a pitch. The sustain pedal and the
messages that silence a channel act on all tracks of their channel, as in an instrument.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median

import mido

SUSTAIN_PEDAL, ALL_SOUND_OFF, RESET_CONTROLLERS = 64, 120, 121
CLOSELY = 1 / 8
"""An overlap up to this fraction of the cut note's length is legato."""

LONG = 8
"""Onsets of a stretch from which on it has to look like overlapping notes."""

NoteRow = tuple[float, float, int, int]
"""start, end, pitch, velocity; the end is infinite for a note that is never released."""


@dataclass(slots=True)
class _Pedal:
    """One time that the pedal is down; what is released meanwhile ends when it is lifted."""

    lifted: float = math.inf


@dataclass(slots=True)
class _Step:
    """An onset, or with velocity 0 a release."""

    seconds: float
    velocity: int
    pedal: _Pedal | None = None
    owed: bool = False
    """Of an onset: whether the release of the note that it cuts is still to come."""
    final: bool = False
    """Of a release: it ends what sounds, whatever releases are still to come."""


@dataclass(slots=True)
class _Voice:
    """One track, channel and pitch, since it was last silent."""

    steps: list[_Step] = field(default_factory=list)
    due: int = 0
    """Releases still to come."""
    stray: float = -1.0
    """When a release came to silence."""
    released_early: bool = False
    """The sounding note's release came just before it."""

    def strike(self, seconds: float, velocity: int) -> None:
        owed = self.due > 0 and not self.released_early
        self.released_early = self.due == 0 and self.stray == seconds
        self.due += owed or self.due == 0
        self.steps.append(_Step(seconds, velocity, owed=owed))

    def release(self, seconds: float, pedal: _Pedal | None, final: bool = False) -> None:
        if self.due:
            self.due = 0 if final else self.due - 1
            self.steps.append(_Step(seconds, 0, pedal, final=final))
        else:
            self.stray = seconds

    def notes(self) -> Iterator[tuple[float, _Step, _Step | None]]:
        """(start, onset, what ends it) of the notes so far; None for one that still sounds."""
        steps, self.steps = self.steps, []
        balanced = self.due == 0 and _overlap(steps)
        onset: _Step | None = None
        waiting, cut_length = 0, 0.0
        for step in steps:
            if step.velocity:
                if onset is not None:
                    cut_length = step.seconds - onset.seconds
                    yield onset.seconds, onset, step
                waiting += step.owed
                onset = step
            elif onset is None:
                continue
            elif waiting and not step.final and (
                balanced or step.seconds - onset.seconds <= CLOSELY * cut_length
            ):  # fmt: skip
                waiting -= 1
            else:
                yield onset.seconds, onset, step
                onset = None
                waiting = waiting if balanced else 0
        if onset is not None:
            yield onset.seconds, onset, None


def _overlap(steps: list[_Step]) -> bool:
    """Whether the notes of a stretch overlap, and are not held together by one lost release."""
    if sum(step.velocity > 0 for step in steps) <= LONG:
        return True
    fractions = [
        (release.seconds - before.seconds) / max(after.seconds - before.seconds, 1e-9)
        for before, release, after in zip(steps, steps[1:], steps[2:], strict=False)
        if before.velocity and not release.velocity and after.velocity
    ]
    return not fractions or median(fractions) < 1 / 2


class Pairing:
    """Takes messages in playing order and gives notes; see the rules above."""

    def __init__(self, sustain: bool) -> None:
        self.sustain = sustain
        self.voices: dict[tuple[int, int, int], _Voice] = defaultdict(_Voice)
        self.sounding: dict[int, set[tuple[int, int, int]]] = defaultdict(set)
        """By channel, the voices that are not silent."""
        self.pedals: dict[int, _Pedal] = {}
        self.found: list[tuple[float, float, _Pedal | None, int, int]] = []

    def take(self, seconds: float, track: int, message: mido.Message) -> None:
        channel = message.channel
        if message.type == "control_change":
            self._control(seconds, channel, message.control, message.value)
            return
        key = track, channel, message.note
        voice = self.voices[key]
        if message.type == "note_on" and message.velocity:
            voice.strike(seconds, message.velocity)
            self.sounding[channel].add(key)
            return
        voice.release(seconds, self.pedals.get(channel))
        if not voice.due:
            self._collect(key)

    def _control(self, seconds: float, channel: int, control: int, value: int) -> None:
        if control in (SUSTAIN_PEDAL, RESET_CONTROLLERS):
            if control == RESET_CONTROLLERS or value < 64:
                self._lift(seconds, channel)
            elif self.sustain:
                self.pedals.setdefault(channel, _Pedal())
            return
        pedal = self.pedals.get(channel)
        if control == ALL_SOUND_OFF and pedal is not None:  # the pedal stays down
            self._lift(seconds, channel)
            pedal = None
            self.pedals[channel] = _Pedal()
        for key in list(self.sounding[channel]):
            self.voices[key].release(seconds, pedal, final=True)
            self._collect(key)

    def _lift(self, seconds: float, channel: int) -> None:
        if (pedal := self.pedals.pop(channel, None)) is not None:
            pedal.lifted = seconds

    def _collect(self, key: tuple[int, int, int]) -> None:
        for start, onset, end in self.voices[key].notes():
            stop = math.inf if end is None else end.seconds
            pedal = None if end is None or end.velocity else end.pedal
            self.found.append((start, stop, pedal, key[2], onset.velocity))
        self.sounding[key[1]].discard(key)

    def notes(self) -> Iterator[NoteRow]:
        """Every note, when all messages have been taken."""
        for key in [key for keys in self.sounding.values() for key in keys]:
            self._collect(key)
        for start, end, pedal, pitch, velocity in self.found:
            yield start, end if pedal is None else pedal.lifted, pitch, velocity


def pair(events: Iterable[tuple[float, int, mido.Message]], sustain: bool) -> list[NoteRow]:
    """Notes of (seconds, track, message) in playing order; their order is not defined."""
    pairing = Pairing(sustain)
    for seconds, track, message in events:
        pairing.take(seconds, track, message)
    return list(pairing.notes())
