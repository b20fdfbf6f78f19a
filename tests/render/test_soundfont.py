"""Notes played by a SoundFont: pitch, level, programs, files that cannot be played."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import make_notes
from render.test_piano import cents_of_the_autocorrelation, cents_of_the_strongest_partial
from sound_font import write_sine_font

from musegen.codecs.midi_layout import MidiLayout, with_layout
from musegen.config.sound import SoundFont, check_sound
from musegen.errors import UserError
from musegen.render.audio import check_plays, synthesise
from musegen.render.soundfont import play
from musegen.render.waveform import RATE

pytest.importorskip("tinysoundfont", reason="tinysoundfont is not installed")


@pytest.fixture(scope="module")
def font(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A font with sine waves for two programs: 0, and at half its amplitude 40."""
    path = tmp_path_factory.mktemp("font") / "sine.sf2"
    write_sine_font(path, {0: 0.5, 40: 0.25})
    return path


@pytest.mark.parametrize("pitch", [21, 36, 60, 69, 84, 108])
def test_notes_are_in_tune_within_5_cents(font: Path, pitch: int) -> None:
    sound = synthesise(make_notes([(0.0, 2.0, pitch, 100)]), check_sound(font))
    assert abs(cents_of_the_strongest_partial(sound, pitch)) < 5
    assert abs(cents_of_the_autocorrelation(sound, pitch)) < 5


def test_the_program_is_chosen(font: Path) -> None:
    note = make_notes([(0.0, 1.0, 69, 127)])
    loud, soft = (np.abs(play(note, SoundFont(font, program))).max() for program in (0, 40))
    assert loud == pytest.approx(2 * soft, rel=0.01)


@pytest.mark.parametrize(("own", "played"), [(0, 0), (40, 40), (41, 0)])
def test_a_piece_is_played_with_its_own_program(font: Path, own: int, played: int) -> None:
    note = make_notes([(0.0, 1.0, 69, 127)])
    piece = with_layout(note, MidiLayout(program=own))
    expected = play(note, SoundFont(font, played))
    assert np.array_equal(play(piece, SoundFont(font, None)), expected)


def test_amplitude_grows_with_the_velocity(font: Path) -> None:
    notes = [make_notes([(0.0, 1.0, 69, velocity)]) for velocity in range(1, 128, 14)]
    peaks = [np.abs(play(n, SoundFont(font, 0))).max() for n in notes]
    assert (np.diff(peaks) > 0).all()


def test_onset_release_and_silence(font: Path) -> None:
    notes = make_notes([(0.5, 1.0, 69, 100), (1.0, 1.5, 69, 100), (2.0, 2.5, 57, 100)])
    sound = synthesise(notes, check_sound(font))
    assert len(sound) == int(2.5 * RATE) + RATE
    assert np.abs(sound).max() == pytest.approx(0.9, abs=1e-6)
    # tinysoundfont moves events to multiples of 64 samples, and fades a release in a few ms.
    for silent in ((0.0, 0.5), (1.6, 2.0), (2.6, 3.5)):
        assert not sound[int(silent[0] * RATE) : int(silent[1] * RATE)].any()
    for sounding in ((0.52, 0.99), (1.02, 1.49), (2.02, 2.49)):
        assert np.abs(sound[int(sounding[0] * RATE) : int(sounding[1] * RATE)]).max() > 0.2
    assert not synthesise(make_notes([]), check_sound(font)).any()


def test_what_cannot_be_played_is_refused_in_one_line(font: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.sf2"
    damaged.write_bytes(font.read_bytes()[:2000])
    for sound, message in ((str(damaged), "damaged.sf2: damaged"), (f"{font}:41", "no program 41")):
        with pytest.raises(UserError, match=message) as refused:
            check_plays(check_sound(sound))
        assert "\n" not in str(refused.value)
