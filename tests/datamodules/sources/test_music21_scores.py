"""Scores of music21's corpus as MIDI: no partial files, resumed after an interruption."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import mido
import music21
import pytest

from datamodules.message_streams import Mozart
from datamodules.sources import music21_scores
from musegen.codecs.midi import read_notes


def corpus_path(name: str) -> Path:
    from music21 import corpus

    return next(Path(p) for p in corpus.getComposer("mozart") if name in str(p))


def test_a_score_whose_repeats_cannot_be_played_is_written_without_them(tmp_path: Path) -> None:
    """music21 raises ExpanderException for K. 458 ii. Without repeats it has all its notes."""
    target = tmp_path / "k458_2.mid"
    music21_scores._convert((corpus_path("k458/movement2"), target))
    notes = read_notes(target)
    seconds_sounding = (notes["end"] - notes["start"]).sum()
    # Four voices: if a note were stuck, more would sound.
    assert 2 < seconds_sounding / notes["end"].max() < 5
    assert 700 < len(notes) <= 813
    assert sorted({p.name for p in tmp_path.iterdir()}) == ["k458_2.mid"]


def test_parts_stay_together_and_an_upbeat_ends_a_bar() -> None:
    """Two parts; in the second bar of one a text stands after the notes, which lengthens it."""
    parts = []
    for late_text in (True, False):
        part = music21.stream.Part()
        for quarters in (1, 3, 3):
            measure = music21.stream.Measure()
            measure.repeatAppend(music21.note.Note("C4"), quarters)
            part.append(measure)
        part[0].timeSignature = music21.meter.TimeSignature("3/4")
        if late_text:
            part[1].insert(3.7, music21.expressions.TextExpression("dolce"))
            part.setElementOffset(part[2], 1 + 3.7)
        parts.append(part)
    score = music21.stream.Score(parts)
    music21_scores._remove_texts_after_notes(score)
    music21_scores._mark_upbeat(score)
    for part in score.parts:
        measures = part.getElementsByClass("Measure")
        assert [float(m.offset) for m in measures] == [0.0, 1.0, 4.0]
        assert [float(m.highestTime) for m in measures] == [1.0, 3.0, 3.0]
        assert measures[1].timeSignature.ratioString == "3/4"


def test_a_failed_conversion_leaves_no_file(tmp_path: Path, monkeypatch) -> None:
    def write_half(self, *, file: IO[bytes]) -> None:
        file.write(b"MThd half a file")
        raise KeyboardInterrupt

    monkeypatch.setattr(mido.MidiFile, "save", write_half)
    with pytest.raises(KeyboardInterrupt):
        music21_scores._convert((corpus_path("k545"), tmp_path / "k545.mid"))
    assert not list(tmp_path.glob("*.mid"))


def test_two_convert_one_score_at_the_same_time(tmp_path: Path, monkeypatch) -> None:
    """As in two containers with a common disk: both have the process number 1."""
    item = music21_scores._score_path("bach/bwv269"), tmp_path / "bwv269.mid"
    save, started = mido.MidiFile.save, []

    def another_begins_and_ends(self, *, file: IO[bytes]) -> None:
        if not started:
            started.append(self)
            music21_scores._convert(item)
        save(self, file=file)

    monkeypatch.setattr(mido.MidiFile, "save", another_begins_and_ends)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    music21_scores._convert(item)
    assert [p.name for p in tmp_path.iterdir()] == ["bwv269.mid"]
    assert len(read_notes(item[1])) > 200


def one_by_one(work, items: list, what: str) -> list:
    return [work(item) for item in items]


def test_an_interrupted_conversion_is_resumed_and_a_finished_one_is_not_repeated(
    tmp_path: Path, monkeypatch
) -> None:
    converted = []

    def convert(item: tuple[Path, Path]) -> None:
        if len(converted) == 5:
            raise KeyboardInterrupt
        converted.append(item[1].name)
        item[1].touch()

    monkeypatch.setattr(music21_scores, "_convert", convert)
    with pytest.raises(KeyboardInterrupt):
        music21_scores.convert_mozart(tmp_path, one_by_one)
    first = converted.copy()
    monkeypatch.setattr(music21_scores, "_convert", lambda item: (converted.append(item[1].name),
                                                         item[1].touch()))  # fmt: skip
    folder = music21_scores.convert_mozart(tmp_path, one_by_one)
    assert len(set(converted)) == len(converted) == 16
    assert converted[:5] == first
    assert len(list(folder.glob("*.mid"))) == 16
    music21_scores.convert_mozart(tmp_path, None)  # type: ignore[arg-type]  # nothing left to do


def test_the_spec_does_not_need_the_conversion(monkeypatch) -> None:
    monkeypatch.setattr("datamodules.message_streams.convert_mozart", None)
    assert Mozart().spec.notes == 88


def test_there_are_350_different_chorales(tmp_path: Path, monkeypatch) -> None:
    converted: dict[str, Path] = {}
    monkeypatch.setattr(
        music21_scores, "_convert", lambda item: converted.update({item[1].name: item[0]})
    )
    music21_scores.convert_chorales(tmp_path, one_by_one)
    assert len(converted) == len(set(converted.values())) == 350
    # Other names start with the same letters, and one score exists in two formats.
    assert converted["bwv244.3.mid"].name == "bwv244.3.mxl"
    assert converted["bwv281.mid"].name == "bwv281.mxl"


def test_a_chorale_has_four_voices(tmp_path: Path) -> None:
    target = tmp_path / "bwv269.mid"
    music21_scores._convert((music21_scores._score_path("bach/bwv269"), target))
    notes = read_notes(target, seconds_per_beat=1.0, overlapping=True)
    assert (notes["end"] - notes["start"]).sum() / notes["end"].max() == pytest.approx(4, abs=0.1)
