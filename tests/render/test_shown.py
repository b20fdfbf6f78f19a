"""Samples in Jupyter, and pieces as files."""

from __future__ import annotations

import base64
import re
import wave
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conftest import make_notes

from musegen.codecs.midi import NOTES, read_notes
from musegen.codecs.roll_codec import RollCodec
from musegen.errors import UserError
from musegen.models.rnn_nade import RNNNADE
from musegen.render.shown import Piece, Samples, as_samples
from musegen.specs import Frames, Rolls, Tokens

NOTES_2 = make_notes([(0.0, 0.5, 60, 80), (0.5, 1.5, 67, 90)])


def content(source: str, media_type: str) -> bytes:
    (found,) = re.findall(f'src="data:{media_type};base64,([^"]+)"', source)
    return base64.b64decode(found)


def test_a_piece_is_its_notes() -> None:
    piece = Piece.of(NOTES_2)
    assert np.array_equal(piece, NOTES_2)
    assert type(piece["pitch"]) is np.ndarray
    assert piece["pitch"].tolist() == [60, 67]
    assert piece.seconds == 1.5
    assert repr(piece) == "Piece(2 notes in 1.5 s, C4 to G4)"
    assert repr([piece[:0]]) == "[Piece(no notes)]"
    assert isinstance(piece[1:], Piece)
    assert piece[0]["velocity"] == 80


def test_a_piece_draws_and_plays_itself() -> None:
    source = Piece.of(NOTES_2)._repr_html_()
    assert content(source, "image/png").startswith(b"\x89PNG")
    with wave.open(BytesIO(content(source, "audio/wav"))) as sound:
        assert sound.getnframes() / sound.getframerate() == pytest.approx(
            1.7, abs=0.2
        )  # with the release
    assert "http" not in source  # nothing is loaded from elsewhere


def test_a_piece_is_saved_by_the_ending_of_the_name(tmp_path: Path) -> None:
    piece = Piece.of(NOTES_2)
    saved = piece.save(tmp_path / "new" / "a.mid")
    assert np.array_equal(read_notes(saved), NOTES_2)
    assert piece.save(str(tmp_path / "a.WAV")).read_bytes()[:4] == b"RIFF"
    assert piece.save(tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
    with pytest.raises(UserError, match=r"a.mp3: the name should end with .mid, .wav, .png, .mus"):
        piece.save(tmp_path / "a.mp3")


def test_a_piece_is_saved_as_a_score(tmp_path: Path) -> None:
    music21 = pytest.importorskip("music21")
    saved = Piece.of(NOTES_2).save(tmp_path / "a.musicxml")
    found = music21.converter.parse(saved).flatten().notes
    # At 120 beats per minute, 0.5 s is a quarter note.
    assert [(n.pitch.midi, float(n.quarterLength)) for n in found] == [(60, 1.0), (67, 2.0)]


def test_texts_and_frames_show_themselves() -> None:
    texts = as_samples(Tokens(3), ["a<b", ("Dutch", "Jan")])
    assert texts._repr_html_() == "<pre>a&lt;b</pre>\n<pre>Dutch\tJan</pre>"
    assert repr(texts) == "['a<b', ('Dutch', 'Jan')]"
    frames = as_samples(Frames(4), [np.zeros((2, 4))])
    assert content(frames._repr_html_(), "image/png").startswith(b"\x89PNG")
    assert Samples()._repr_html_() == ""


def test_a_model_generates_pieces() -> None:
    codec = RollCodec((60, 64), dt=0.25)
    model = RNNNADE(Rolls(4), codec, hidden=2, recurrent=2)
    pieces = model.generate(n=2, length=8, seed=1)
    assert isinstance(pieces, Samples)
    assert [type(p) for p in pieces] == [Piece, Piece]
    assert pieces[0].dtype == NOTES
    other = as_samples(Rolls(4), ["what a model of one's own returns"])
    assert other == ["what a model of one's own returns"]
