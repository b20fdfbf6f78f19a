"""The folder of kept files: names, formats, and what is read from bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import make_notes, tune

from musegen.codecs.midi import NOTES, read_notes, write_notes
from musegen.codecs.midi_layout import MidiLayout, with_layout
from musegen.errors import UserError
from musegen.studio.session import Session


def test_kept_files_have_new_names_and_hold_the_piece(tmp_path: Path) -> None:
    session, notes = (
        Session(tmp_path / "kept"),
        make_notes([(0.0, 0.5, 60, 80), (0.5, 1.5, 64, 70)]),
    )
    first, second = (session.keep(notes, 90.0, ".mid") for _ in range(2))
    assert first != second
    assert sorted((tmp_path / "kept").iterdir()) == sorted([first, second])
    again = read_notes(first)
    assert np.allclose(again["end"], notes["end"], atol=1e-3)
    assert again["velocity"].tolist() == [80, 70]


def test_a_format_or_a_piece_that_cannot_be_kept_leaves_no_file(tmp_path: Path) -> None:
    session = Session(tmp_path)
    with pytest.raises(UserError, match=r"format=\.exe"):
        session.keep(tune(1), 120.0, ".exe")
    with pytest.raises(UserError, match="no notes"):
        session.keep(np.empty(0, NOTES), 120.0, ".mid")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_read_at_its_tempo(tmp_path: Path) -> None:
    session, path = Session(tmp_path / "kept"), tmp_path / "my.mid"
    notes = tune(2)
    write_notes(with_layout(notes, MidiLayout(60 / 75, 480)), path)
    read, tempo = session.read(path.read_bytes())
    assert tempo == pytest.approx(75, abs=0.01)
    assert np.allclose(read["start"], notes["start"], atol=2e-3)
    assert not session.folder.exists()  # nothing is left of reading


def test_what_is_no_midi_file_is_refused_without_a_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="^this file: not a readable MIDI file") as caught:
        Session(tmp_path / "kept").read(b"MThd nonsense")
    assert str(tmp_path) not in str(caught.value)
