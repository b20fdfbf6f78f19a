"""music21's Mozart movements → MIDI files, once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

CONVERSION = 2
"""Part of the cache's name: raise it when the files written become others."""


def convert_mozart(cache: Path, in_parallel: Callable) -> Path:
    """The folder below `cache` that holds every Mozart movement of music21's corpus as MIDI.

    Movements not there yet are converted, each written beside its place and moved there whole,
    so that a conversion killed at any moment goes on where it was. The folder's name carries
    music21's version, since another version may hold other scores.
    """
    folder = cache / f"music21-{_music21_version()}-{CONVERSION}"
    complete = folder / "complete"
    if not complete.exists():
        from music21 import corpus

        folder.mkdir(exist_ok=True)
        sources = [Path(p) for p in corpus.getComposer("mozart")]
        names = [f"{p.parent.name}_{p.stem}.mid" for p in sources]
        todo = [
            (s, folder / n)
            for s, n in zip(sources, names, strict=True)
            if not (folder / n).exists()
        ]
        # Longest first: the last movement to finish should not be the longest one.
        todo.sort(key=lambda item: -item[0].stat().st_size)
        in_parallel(_convert, todo, "converting Mozart to MIDI")
        complete.touch()
    return folder


def _music21_version() -> str:
    from importlib.metadata import version

    return version("music21")


def _convert(item: tuple[Path, Path]) -> None:
    from music21 import converter, repeat
    from music21.midi.translate import streamToMidiFile

    source, target = item
    score = converter.parse(source, forceSource=True)
    _forget_graces(score)
    try:
        midi = streamToMidiFile(score)
    except repeat.ExpanderException:
        # K. 458 i and ii have repeats that cannot be played as they are notated.
        _forget_repeats(score)
        midi = streamToMidiFile(score)
    part = target.with_suffix(f".{os.getpid()}.part")
    midi.open(part, "wb")
    try:
        midi.write()
    finally:
        midi.close()
    part.replace(target)


def _forget_graces(score) -> None:
    """Leave out grace notes: music21 writes them with no length, their release before their
    onset, so that each would sound until its pitch comes again."""
    graces = [n for n in score.recurse().notes if n.duration.isGrace]
    score.remove(graces, recurse=True)


def _forget_repeats(score) -> None:
    """Turn repeat signs into plain bar lines and drop first and second endings' brackets."""
    for measure in score.recurse().getElementsByClass("Measure"):
        for side in ("leftBarline", "rightBarline"):
            if "Repeat" in getattr(measure, side).classes if getattr(measure, side) else False:
                setattr(measure, side, None)
    for bracket in list(score.recurse().getElementsByClass("RepeatBracket")):
        score.remove(bracket, recurse=True)
