"""Scores of music21 as MIDI: the same notes, bars and tempo as in the files of its own writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from music21 import (
    articulations,
    bar,
    chord,
    dynamics,
    instrument,
    meter,
    note,
    repeat,
    spanner,
    stream,
    tempo,
    tie,
)
from music21.midi.translate import streamToMidiFile

from datamodules.sources import music21_scores
from datamodules.sources.score_midi import score_to_midi
from musegen.codecs.messages import score_to_messages
from musegen.codecs.midi import Score, read_notes, read_score


def measure(*elements: object) -> stream.Measure:
    """A measure of elements that follow each other; a number is a C of so many quarters."""
    made = stream.Measure()
    for element in elements:
        made.append(note.Note("C4", quarterLength=element) if is_number(element) else element)
    return made


def is_number(element: object) -> bool:
    return isinstance(element, (int, float))


def tied(element: note.Note | chord.Chord, kind: str) -> note.Note | chord.Chord:
    element.tie = tie.Tie(kind)
    return element


def part(*measures: stream.Measure) -> stream.Part:
    made = stream.Part()
    made.append(list(measures))
    return made


def score(*parts: stream.Part) -> stream.Score:
    made = stream.Score()
    for each in parts:
        made.insert(0, each)
    return made


def written(made: stream.Score, tmp_path: Path) -> Score:
    """What is read from our file. What is read from music21's file must be equal to it."""
    ours, theirs = tmp_path / "ours.mid", tmp_path / "theirs.mid"
    score_to_midi(made).save(ours)
    midi = streamToMidiFile(made)
    with theirs.open("wb") as file:
        midi.openFileLike(file)
        midi.write()
    result, expected = read_score(ours), read_score(theirs)
    np.testing.assert_array_equal(score_to_messages(result), score_to_messages(expected))
    np.testing.assert_array_equal(result.bars, expected.bars)
    for overlapping in (False, True):
        np.testing.assert_array_equal(
            read_notes(ours, overlapping=overlapping), read_notes(theirs, overlapping=overlapping)
        )
    return result


def times(result: Score) -> list[tuple[float, float]]:
    return [(float(n["start"]), float(n["end"])) for n in result.notes]


def test_ties_over_bar_lines_are_joined(tmp_path: Path) -> None:
    def c(quarters: float, kind: str) -> note.Note:
        return tied(note.Note("C4", quarterLength=quarters), kind)

    made = score(part(
        measure(3, c(1, "start")), measure(c(4, "continue")), measure(c(2, "stop"), 2)
    ))  # fmt: skip
    assert times(written(made, tmp_path)) == [(0, 3), (3, 10), (10, 12)]


def test_tied_chords_are_joined_if_they_have_the_same_pitches(tmp_path: Path) -> None:
    def c(names: str, kind: str) -> chord.Chord:
        return tied(chord.Chord(names, quarterLength=4), kind)

    made = score(part(
        measure(c("C4 E4", "start")), measure(c("C4 E4", "stop")),
        measure(c("C4 E4", "start")), measure(c("C4 G4", "stop")),
        measure(c("C4 F#4", "start")), measure(c("C4 G-4", "stop")),
    ))  # fmt: skip
    assert times(written(made, tmp_path)) == [
        (0, 8), (0, 8), (8, 12), (8, 12), (12, 16), (12, 16),
        (16, 20), (16, 20), (20, 24), (20, 24),
    ]  # fmt: skip


def test_a_note_in_another_voice_may_break_a_tie(tmp_path: Path) -> None:
    """As in music21. It is not right, but published results depend on these files."""
    bars = []
    for kind in ("start", "continue", "stop"):
        made = stream.Measure()
        upper, lower = stream.Voice(), stream.Voice()
        upper.append(tied(note.Note("C5", quarterLength=4), kind))
        lower.repeatAppend(note.Note("E4"), 4)
        made.insert(0, upper)
        made.insert(0, lower)
        bars.append(made)
    written(score(part(*bars)), tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_random_ties_in_two_voices_are_those_of_music21(seed: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(seed)
    kinds = [None, "start", "continue", "stop"]

    def element() -> note.GeneralNote:
        length = float(generator.choice([0.5, 1, 2]))
        pitches = generator.choice(["C4", "D4", "D#4", "E-4"], generator.integers(3), False)
        if not len(pitches):
            return note.Rest(quarterLength=length)
        made = chord.Chord(pitches, quarterLength=length) if len(pitches) > 1 else note.Note(
            pitches[0], quarterLength=length)  # fmt: skip
        if kind := kinds[generator.integers(4)]:
            made.tie = tie.Tie(kind)
        return made

    bars = []
    for _ in range(6):
        made = stream.Measure()
        for _ in range(2):
            voice = stream.Voice()
            for _ in range(5):
                voice.append(element())
            made.insert(0, voice)
        bars.append(made)
    assert len(written(score(part(*bars)), tmp_path).notes) > 20


def test_first_and_second_endings(tmp_path: Path) -> None:
    """The same in two parts; each has a bar of another length of notes."""
    parts = []
    for pitch in ("C4", "C3"):
        bars = [measure(note.Note(pitch, quarterLength=q), note.Rest(quarterLength=4 - q))
                for q in (1, 2, 3, 3.5)]  # fmt: skip
        bars[2].rightBarline = bar.Repeat(direction="end")
        made = part(*bars)
        made.insert(0, spanner.RepeatBracket(bars[2], number=1))
        made.insert(0, spanner.RepeatBracket(bars[3], number=2))
        parts.append(made)
    result = written(score(*parts), tmp_path)
    lengths = (result.notes["end"] - result.notes["start"])[result.notes["pitch"] == 60]
    assert lengths.tolist() == [1, 2, 3, 1, 2, 3.5]
    assert len(result.notes) == 12


def test_a_da_capo_is_played(tmp_path: Path) -> None:
    bars = [measure(q, note.Rest(quarterLength=4 - q)) for q in (1, 2, 3)]
    bars[0].append(repeat.Fine())
    bars[2].append(repeat.DaCapoAlFine())
    notes = written(score(part(*bars)), tmp_path).notes
    assert (notes["end"] - notes["start"]).tolist() == [1, 2, 3, 1]


def test_repeats_that_cannot_be_played_are_refused() -> None:
    bars = [measure(4), measure(4)]
    bars[0].leftBarline = bar.Repeat(direction="start")
    bars[1].leftBarline = bar.Repeat(direction="start")
    bars[1].append(repeat.DaCapoAlFine())
    with pytest.raises(repeat.ExpanderException):
        score_to_midi(score(part(*bars)))
    made = score(part(*bars))
    music21_scores._remove_repeats(made)
    assert sum(m.type == "note_on" for m in score_to_midi(made).tracks[1]) == 2


def test_repeats_without_a_start_are_not_played_again_and_again() -> None:
    bars = [measure(4) for _ in range(4)]
    for each in bars[1:]:
        each.rightBarline = bar.Repeat(direction="end")
    with pytest.raises(repeat.ExpanderException, match="would be played 8 times"):
        score_to_midi(score(part(*bars)))


def test_dynamics_and_accents_are_velocities(tmp_path: Path) -> None:
    """A dynamic is valid from its place on, also when its bars are played again."""
    accented = note.Note("C4", quarterLength=1)
    accented.articulations.append(articulations.Accent())
    bars = [
        measure(4),
        measure(dynamics.Dynamic("p"), 1, accented, 1, dynamics.Dynamic("f"), 1),
        measure(4),
    ]
    bars[2].rightBarline = bar.Repeat(direction="end")
    velocities = written(score(part(*bars)), tmp_path).notes["velocity"].tolist()
    plain, soft, loud = 90, 63, 126
    assert velocities[:6] == [plain, soft, velocities[2], soft, loud, loud]
    assert soft < velocities[2] < loud
    assert velocities[6] == loud, "the repeat begins as loud as the end"


def test_dynamics_after_triplets(tmp_path: Path) -> None:
    """music21's rounding decides whether a note at the same place has them already."""
    third = 1 / 3
    bars = [
        measure(*[part_of for k in range(6) for part_of in (third, dynamics.Dynamic("pf"[k % 2]))])
        for _ in range(15)
    ]
    assert len(set(written(score(part(*bars)), tmp_path).notes["velocity"])) == 3


def test_tempos_and_time_signatures_of_several_movements(tmp_path: Path) -> None:
    """Both parts have the signatures, only one the tempos."""
    parts = []
    for marked in (True, False):
        bars = [measure(3), measure(3), measure(2), measure(2)]
        bars[0].timeSignature = meter.TimeSignature("3/4")
        bars[2].timeSignature = meter.TimeSignature("2/4")
        if marked:
            bars[0].insert(0, tempo.MetronomeMark(number=60))
            bars[2].insert(0, tempo.MetronomeMark(number=90, referent=note.Note(type="half")))
            bars[3].insert(0, tempo.MetronomeMark("Allegretto"))
            bars[1].rightBarline = bar.Barline("final")
        parts.append(part(*bars))
    result = written(score(*parts), tmp_path)
    assert result.bars["start"].tolist() == [0, 6]
    assert result.bars["length"].tolist() == [3, 2]
    seconds = 6 * 1.0 + 2 * 60 / 180 + 2 * 60 / 108
    assert result.seconds_per_beat == pytest.approx(seconds / 10, abs=1e-6)


def test_a_score_without_signs_has_common_time_at_120(tmp_path: Path) -> None:
    result = written(score(part(measure(4))), tmp_path)
    assert result.bars.tolist() == [(0, 0, 4)]
    assert result.seconds_per_beat == 0.5


def test_triplets_are_on_the_grid(tmp_path: Path) -> None:
    bars = [measure(*[note.Note("C4", quarterLength=1 / 3) for _ in range(12)]) for _ in range(30)]
    ticks = written(score(part(*bars)), tmp_path).notes["start"] * 24
    np.testing.assert_allclose(ticks, np.arange(360) * 8, atol=1e-9)


def test_unisons_of_two_voices_in_a_part_do_not_stick(tmp_path: Path) -> None:
    made = stream.Measure()
    for lengths in ((1, 3), (2, 2)):
        voice = stream.Voice()
        voice.append([note.Note("C4", quarterLength=q) for q in lengths])
        made.insert(0, voice)
    assert times(written(score(part(made)), tmp_path)) == [(0, 1), (1, 2), (2, 4)]


def test_each_part_has_its_instrument() -> None:
    parts = [part(measure(4)) for _ in range(2)]
    parts[0].insert(0, instrument.Violin())
    parts[1].insert(0, instrument.Violoncello())
    midi = score_to_midi(score(*parts))
    programs = [m.program for t in midi.tracks for m in t if m.type == "program_change"]
    names = [m.name for t in midi.tracks for m in t if m.type == "track_name"]
    assert programs == [40, 42]
    assert names == ["Violin", "Violoncello"]


def test_a_long_part_takes_time_proportional_to_its_length() -> None:
    """Ties and repeats over 200 bars, which music21's own writer copies and searches."""
    bars = []
    for _ in range(100):
        first, second = (tied(note.Note("D4", quarterLength=1), kind) for kind in ("start", "stop"))
        bars += [measure(2, first), measure(second, 2)]
    bars[-1].rightBarline = bar.Repeat(direction="end")
    midi = score_to_midi(score(part(*bars)))
    assert sum(m.type == "note_on" for m in midi.tracks[1]) == 2 * 300
