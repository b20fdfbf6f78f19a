"""Scores of music21's corpus → MIDI files, once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

CONVERSION = 2
"""Part of the cache's name: raise it when the files written become others."""


def convert_mozart(cache: Path, in_parallel: Callable) -> Path:
    """The folder below `cache` with every Mozart movement of the corpus as MIDI."""

    def sources() -> dict[str, Path]:
        from music21 import corpus

        paths = [Path(p) for p in corpus.getComposer("mozart")]
        return {f"{p.parent.name}_{p.stem}.mid": p for p in paths}

    return _convert_all(sources, cache, in_parallel, "converting Mozart to MIDI")


def convert_chorales(cache: Path, in_parallel: Callable) -> Path:
    """The folder below `cache` with Bach's chorales of the corpus as MIDI.

    Riemenschneider's 371, of which 350 are different scores.
    """

    def sources() -> dict[str, Path]:
        from music21.corpus import chorales

        names = set(chorales.Iterator(returnType="filename"))
        return {f"{Path(name).name}.mid": _score(name) for name in names}

    return _convert_all(sources, cache, in_parallel, "converting chorales to MIDI")


def _score(name: str) -> Path:
    """The one score that the corpus has under a name such as bach/bwv244.3."""
    from music21 import corpus

    found = corpus.getWork(name)
    paths = sorted(found) if isinstance(found, list) else [found]
    # It is asked for a beginning, and finds bwv244.32 and another file format as well.
    exact = [p for p in paths if p.name in (f"{Path(name).name}{s}" for s in (".mxl", ".xml"))]
    return Path((exact or paths)[0])


def _convert_all(
    sources: Callable[[], dict[str, Path]], cache: Path, in_parallel: Callable, what: str
) -> Path:
    """The folder below `cache` with each of `sources`, a score by the name of its MIDI file.

    Scores not there yet are converted, each written beside its place and moved there whole, so
    that a conversion killed at any moment goes on where it was. The folder's name carries
    music21's version, since another version may hold other scores.
    """
    folder = cache / f"music21-{_music21_version()}-{CONVERSION}"
    complete = folder / "complete"
    if not complete.exists():
        folder.mkdir(exist_ok=True)
        todo = [
            (score, folder / name)
            for name, score in sources().items()
            if not (folder / name).exists()
        ]
        # Longest first: the last score to finish should not be the longest one.
        todo.sort(key=lambda item: -item[0].stat().st_size)
        in_parallel(_convert, todo, what)
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
