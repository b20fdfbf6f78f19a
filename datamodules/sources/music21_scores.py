"""Scores of music21's corpus, converted to MIDI files once."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from datamodules.base import cache_path
from datamodules.sources.score_midi import score_to_midi
from musegen.runtime.atomic import replacing

CONVERSION = 4
"""A part of the cache's name. Increase it when a change here changes the files."""
COMPLETE = "complete"
"""The name of a file that says that all scores are converted."""
CONVERTED = "nothing: it is converted from music21's corpus once"


def is_converted(cache_name: str) -> bool:
    """Whether all scores of a data set are in its folder of the cache."""
    try:
        return (cache_path(None, cache_name) / _folder_name() / COMPLETE).exists()
    except PackageNotFoundError:
        return False


def _folder_name() -> str:
    return f"music21-{version('music21')}-{CONVERSION}"


def convert_mozart(cache: Path, in_parallel: Callable) -> Path:
    """The folder below `cache` with every Mozart movement of the corpus as MIDI."""
    return convert_composer("mozart", cache, in_parallel)


def convert_composer(composer: str, cache: Path, in_parallel: Callable) -> Path:
    """The folder below `cache` with the corpus's scores of a composer as MIDI.

    A file is a movement. Of six quartets by Beethoven (op. 18 no. 3 to 5, 74, 132 and 133) the
    corpus has all movements in one file.
    """

    def find_scores() -> dict[str, Path]:
        from music21 import corpus

        paths = [Path(p) for p in corpus.getComposer(composer)]
        # Op. 18 no. 1 is there in two formats.
        paths = [p for p in paths if p.suffix == ".mxl"]
        return {f"{p.parent.name}_{p.stem}.mid": p for p in paths}

    title = f"converting {composer.title()} to MIDI"
    return _convert_all(find_scores, cache, in_parallel, title)


def convert_chorales(cache: Path, in_parallel: Callable) -> Path:
    """The folder below `cache` with Bach's chorales of the corpus as MIDI.

    They are the 371 chorales of Riemenschneider's edition, of which 350 are different scores.
    """

    def find_scores() -> dict[str, Path]:
        from music21.corpus import chorales

        names = set(chorales.Iterator(returnType="filename"))
        return {f"{Path(name).name}.mid": _score_path(name) for name in names}

    return _convert_all(find_scores, cache, in_parallel, "converting chorales to MIDI")


def _score_path(name: str) -> Path:
    """The score that the corpus has under a name such as bach/bwv244.3."""
    from music21 import corpus

    found = corpus.getWork(name)
    paths = sorted(found) if isinstance(found, list) else [found]
    # getWork searches for a prefix: it also finds bwv244.32, and the same score in two formats.
    exact = [p for p in paths if p.name in (f"{Path(name).name}{s}" for s in (".mxl", ".xml"))]
    return Path((exact or paths)[0])


def _convert_all(
    find_scores: Callable[[], dict[str, Path]], cache: Path, in_parallel: Callable, what: str
) -> Path:
    """The folder below `cache` with each of the scores, which are given by MIDI file name.

    Only scores without a MIDI file are converted. A file is written under another name and then
    renamed, so that an interrupted conversion can be resumed. The folder's name contains
    music21's version, because another version may have other scores.
    """
    folder = cache / _folder_name()
    complete = folder / COMPLETE
    if not complete.exists():
        folder.mkdir(exist_ok=True)
        missing = [
            (score, folder / name)
            for name, score in find_scores().items()
            if not (folder / name).exists()
        ]
        # The longest first, so that no process works on a long score when all others are done.
        missing.sort(key=lambda item: -item[0].stat().st_size)
        in_parallel(_convert, missing, what)
        complete.touch()
    return folder


def _convert(item: tuple[Path, Path]) -> None:
    """Write a score as a MIDI file: (path of the score, path of the MIDI file)."""
    from music21 import converter, repeat

    source, target = item
    score = converter.parse(source, forceSource=True)
    _remove_grace_notes(score)
    _remove_texts_after_notes(score)
    _mark_upbeat(score)
    try:
        midi = score_to_midi(score)
    except repeat.ExpanderException:
        # The notated repeats of K. 458 i and ii cannot be played.
        _remove_repeats(score)
        midi = score_to_midi(score)
    with replacing(target, "wb") as file:
        midi.save(file=file)


def _remove_grace_notes(score) -> None:
    """Remove grace notes, which have no length of their own: they cannot be on a grid of beats."""
    for note in list(score.recurse().notes):
        if note.duration.isGrace:
            note.activeSite.remove(note)


def _remove_texts_after_notes(score) -> None:
    """Remove what stands after the last note or rest of its measure, and close the gap.

    music21 makes such a measure longer. In K. 458 iv a text at another place in each part does so,
    and from there on the parts would not be together.
    """
    for part in score.parts:
        surplus = 0.0
        for measure in part.getElementsByClass("Measure"):
            part.setElementOffset(measure, measure.getOffsetBySite(part) - surplus)
            ends = [note.getOffsetInHierarchy(measure) + note.quarterLength
                    for note in measure.recurse().notesAndRests]  # fmt: skip
            if ends and (more := measure.highestTime - max(ends)) > 0:
                surplus += more
                late = [e for e in measure.elements if e.getOffsetBySite(measure) > max(ends)]
                measure.remove(late)


def _mark_upbeat(score) -> None:
    """Repeat the time signature in the second measure of a piece that begins with an upbeat.

    A MIDI file has no bar lines; so a reader can tell where the first whole bar starts.
    """
    for part in score.parts:
        first, *others = part.getElementsByClass("Measure")[:2]
        signature = first.timeSignature
        if signature and others and first.highestTime < signature.barDuration.quarterLength:
            others[0].timeSignature = type(signature)(signature.ratioString)


def _remove_repeats(score) -> None:
    """Replace repeat signs by plain bar lines; remove brackets of endings and words like da capo.

    Of Beethoven's op. 132 one part alone has a da capo.
    """
    from music21.repeat import RepeatExpression

    for measure in score.recurse().getElementsByClass("Measure"):
        for side in ("leftBarline", "rightBarline"):
            barline = getattr(measure, side)
            if barline and "Repeat" in barline.classes:
                setattr(measure, side, None)
        measure.removeByClass(RepeatExpression)
    for bracket in list(score.recurse().getElementsByClass("RepeatBracket")):
        score.remove(bracket, recurse=True)
