"""MusicXML of generated pieces, read again by music21."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import make_notes

from musegen.codecs.midi import write_notes
from musegen.render.notation import write_musicxml
from musegen.render.samples import write_pieces


def test_a_piece_has_two_staves_and_its_notes_at_their_beats(tmp_path: Path) -> None:
    """At 120 beats per minute. One note lasts for three bars, beside others of the same hand."""
    notes = make_notes([
        (0.0, 0.5, 72, 80), (0.5, 0.76, 74, 80), (0.0, 6.0, 64, 80),  # a slightly late release
        (0.0, 1.0, 48, 80), (1 / 6, 1 / 3, 50, 80),  # a note of a triplet
    ])  # fmt: skip
    write_notes(notes, tmp_path / "00.mid")
    write_musicxml(tmp_path / "00.mid", tmp_path / "00.musicxml")
    score = pytest.importorskip("music21").converter.parse(tmp_path / "00.musicxml")
    assert score.metadata.bestTitle == "00"
    assert [p.recurse().getElementsByClass("Clef").first().sign for p in score.parts] == ["G", "F"]
    upper, lower = (
        sorted(
            (float(n.offset), float(n.quarterLength), n.pitch.midi, n.tie.type if n.tie else "")
            for n in part.flatten().notes
        )
        for part in score.parts
    )
    tied = [(0, 4, 64, "start"), (4, 4, 64, "continue"), (8, 4, 64, "stop")]
    assert upper == sorted([(0, 1, 72, ""), (1, 0.5, 74, ""), *tied])
    third = pytest.approx(1 / 3)
    assert lower == [(0, 2, 48, ""), (third, third, 50, "")]


def test_formats_and_labels_name_the_files(tmp_path: Path) -> None:
    silent, piece = make_notes([]), make_notes([(0.0, 1.0, 60, 80)])
    paths = write_pieces([("a/b", piece), ("ç", silent)], tmp_path, ["musicxml", "png"])
    # The MIDI file is always there; a piece without notes has no score.
    names = ["00_a_b.mid", "00_a_b.musicxml", "00_a_b.png", "01_ç.mid", "01_ç.png"]
    assert [p.name for p in paths] == names
    assert sorted(p.name for p in tmp_path.iterdir()) == names
