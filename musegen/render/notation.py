"""A MIDI file as a score in staff notation, written as MusicXML by music21.

Score editors (MuseScore, Sibelius, Finale, Dorico) open MusicXML. Times are rounded to sixteenth
notes and to eighth-note triplets. A MIDI file with several tracks gives a staff for each; one with
a single track gives the two staves of a piano, divided at middle C. Where the file does not say it,
the key signature is that of the key found by Krumhansl's profiles.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import mido

from musegen.codecs.midi import MIDDLE_C
from musegen.runtime.atomic import replacing

DIVISORS = (4, 3)
"""Onsets and durations are multiples of a beat divided by one of these."""


def write_musicxml(midi: Path, target: Path) -> None:
    """Write the notes of a MIDI file that has notes as MusicXML. It takes seconds per minute.

    An interrupted write leaves no partial file.
    """
    # Imported here because this takes a second, and few runs write scores.
    from music21.musicxml.m21ToXml import GeneralObjectExporter

    document = GeneralObjectExporter(_score(midi, target.stem)).parse()
    with replacing(target, "wb") as file:
        file.write(document)


def _score(midi: Path, title: str) -> Any:
    from music21 import layout, metadata
    from music21.midi import MidiFile
    from music21.midi.translate import midiFileToStream

    content = mido.MidiFile(midi)
    two_staves = _split_at_middle_c(content)
    buffer = io.BytesIO()
    content.save(file=buffer)
    parsed = MidiFile()
    parsed.readstr(buffer.getvalue())
    score: Any = midiFileToStream(parsed, quantizePost=True, quarterLengthDivisors=DIVISORS)
    score.metadata = metadata.Metadata(movementName=title, composer="musegen")
    for part in list(score.parts):
        score.replace(part, _in_bars(part))
    if two_staves:
        score.insert(0, layout.StaffGroup(list(score.parts), symbol="brace"))
    if not score.recurse().getElementsByClass("KeySignature"):
        key = score.analyze("key")
        for part in score.parts:
            part.getElementsByClass("Measure").first().keySignature = key
    return score


def _in_bars(part: Any) -> Any:
    """The part again, with every note that lasts beyond its bar divided into tied notes.

    music21 reads MIDI into bars and voices first, and does not divide notes within voices.
    """
    from music21 import stream

    flat = stream.Part(id=part.id)
    for element in part.flatten():
        flat.insert(element.offset, element)
    flat.partName = part.partName
    bars = flat.makeMeasures()
    bars.makeTies(inPlace=True)
    signature = None
    for bar in bars.getElementsByClass("Measure"):
        own, signature = bar.timeSignature, bar.timeSignature or signature
        bar.timeSignature = signature  # music21 would search the whole part for it, in every bar
        bar.makeVoices(inPlace=True)
        if own is None:
            bar.timeSignature = None
    return bars


def _split_at_middle_c(content: mido.MidiFile) -> bool:
    """If only one track has notes, replace it by two. Returns whether there are two staves now."""
    voices = [t for t in content.tracks if any(m.type == "note_on" for m in t)]
    if len(voices) != 1:
        return False
    (track,) = voices
    upper, lower = _without(track, range(MIDDLE_C)), _without(track, range(MIDDLE_C, 128))
    if not all(any(m.type == "note_on" for m in half) for half in (upper, lower)):
        return False
    content.type = 1
    content.tracks[content.tracks.index(track)] = upper
    content.tracks.append(lower)
    return True


def _without(track: mido.MidiTrack, pitches: range) -> mido.MidiTrack:
    """The track without these pitches; the other messages keep their times."""
    kept, waited = mido.MidiTrack(), 0
    for message in track:
        waited += message.time
        if message.type not in ("note_on", "note_off") or message.note not in pitches:
            kept.append(message.copy(time=waited))
            waited = 0
    return kept
