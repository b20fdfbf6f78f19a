"""Measurements of both instruments: pitch, level, clicks, speed."""

from __future__ import annotations

import time
import wave
from pathlib import Path

import numpy as np
import pytest
from conftest import make_notes, tune

from musegen.codecs.midi import tidy
from musegen.render import additive, piano
from musegen.render.additive import ATTACK, RING, string
from musegen.render.audio import RELEASE, synthesise
from musegen.render.samples import one_per_sample, write_pieces
from musegen.render.waveform import RATE, write_wave

both = pytest.mark.parametrize("sound", ["piano", "additive"])


def measured_frequency(sound: np.ndarray) -> float:
    """The strongest frequency, interpolated by a parabola through three bins."""
    spectrum = np.log(np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 19)) + 1e-12)
    peak = int(spectrum.argmax())
    left, centre, right = spectrum[peak - 1 : peak + 2]
    return (peak + 0.5 * (left - right) / (left - 2 * centre + right)) * RATE / (1 << 19)


@pytest.mark.parametrize("pitch", range(21, 109))
def test_every_key_is_in_tune_within_5_cents(pitch: int) -> None:
    sound = synthesise(make_notes([(0.0, 2.0, pitch, 100)]), "additive")
    expected = 440 * 2 ** ((pitch - 69) / 12)
    low, high = expected * 0.9, expected * 1.1
    spectrum = np.fft.rfft(sound)
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    spectrum[(hertz < low) | (hertz > high)] = (
        0  # keep the fundamental, since a partial may be louder
    )
    cents = 1200 * np.log2(measured_frequency(np.fft.irfft(spectrum, len(sound))) / expected)
    assert abs(cents) < 5


def test_a_string_is_the_sum_of_its_partials() -> None:
    t = np.arange(int(RING * RATE)) / RATE
    f0 = 440 * 2 ** (-9 / 12)
    partials = [
        np.sin(2 * np.pi * k * f0 * t) / k * np.exp(-(0.6 + 0.4 * k) * (0.5 + f0 / 600) * t)
        for k in range(1, 9)
    ]
    expected = np.sum(partials, axis=0)
    after = int(ATTACK * RATE)
    sound = string(60).astype(float)
    scale = expected[after:] @ sound[after:] / (sound[after:] @ sound[after:])
    np.testing.assert_allclose(scale * sound[after:], expected[after:], atol=1e-6)


@both
def test_not_silent_and_never_clipped(sound: str) -> None:
    for notes in (tune(0), make_notes([(0.0, 1.0, p, 127) for p in range(21, 109)])):
        wave = synthesise(notes, sound)
        assert np.abs(wave).max() == pytest.approx(0.9, abs=1e-4)
        assert np.sqrt((wave**2).mean()) > 0.01


def test_amplitude_grows_with_the_square_of_the_velocity() -> None:
    sound = synthesise(make_notes([(0.0, 1.0, 60, 40), (2.0, 3.0, 60, 120)]), "additive")
    soft, loud = np.abs(sound[:RATE]).max(), np.abs(sound[2 * RATE :]).max()
    assert loud / soft == pytest.approx(9, rel=0.05)


@pytest.mark.parametrize("length", [0.0005, 0.013, 0.5, 20.0])
@pytest.mark.parametrize("pitch", [21, 33, 60, 84, 108])
def test_no_clicks(pitch: int, length: float) -> None:
    """The steps between samples at a note's start and end are no larger than within the note. The
    first and the last samples are close to 0, also for a note that is shorter than a fade."""
    sound = synthesise(make_notes([(0.1, 0.1 + length, pitch, 127)]), "additive")
    onset, attacked = int(0.1 * RATE), int((0.1 + ATTACK) * RATE)
    released = onset + int(min(length, RING - RELEASE) * RATE)
    jumps = np.abs(np.diff(sound, prepend=0, append=0))
    largest = np.abs(np.diff(string(pitch)[int(ATTACK * RATE) :])).max()
    loudness = 0.9 / np.abs(string(pitch)[: released - onset + int(RELEASE * RATE)]).max()
    if length > ATTACK:  # a shorter note is normalised differently
        assert jumps[: attacked + 1].max() <= 1.1 * loudness * largest
        assert jumps[released:].max() <= 1.1 * loudness * largest
    assert jumps[onset - 1 : onset + 2].max() < 0.01
    assert jumps[-2:].max() < 1e-3


@both
def test_no_clicks_between_notes(sound: str) -> None:
    """A repeated pitch, and the end of a chord: no larger steps than within the notes."""
    notes = make_notes([(0.0, 0.5, 45, 100), (0.5, 1.0, 45, 100), (0.5, 1.0, 52, 100)])
    wave = synthesise(notes, sound)
    seam = np.abs(np.diff(wave[int(0.495 * RATE) : int(0.52 * RATE)])).max()
    between = np.abs(np.diff(wave[int(0.52 * RATE) : int(0.99 * RATE)])).max()
    assert seam <= 1.1 * between


@both
def test_four_voices_are_synthesised_50_times_faster_than_real_time(sound: str) -> None:
    """A minute of quarter and eighth notes in four voices, without cached strings."""
    rng = np.random.default_rng(0)
    rows = [
        (float(t), float(t) + step, int(low + rng.integers(0, 13)), 80)
        for low, step in ((38, 0.5), (50, 0.5), (57, 0.25), (64, 0.25))
        for t in np.arange(0, 60, step)
    ]
    notes = tidy(make_notes(rows))
    string.cache_clear()
    piano.strings.cache_clear()
    piano.samples.cache_clear()
    started = time.process_time()
    wave = synthesise(notes, sound)
    assert len(wave) / RATE / (time.process_time() - started) > 50


@both
def test_a_note_fades_out_and_then_there_is_silence(sound: str) -> None:
    notes = make_notes([(0.0, 0.5, 48, 100), (1.5, 2.0, 48, 1)])
    wave = synthesise(notes, sound)
    released, silent = int(0.5 * RATE), int((0.5 + RELEASE) * RATE) + 1
    assert np.abs(wave[released - 500 : released]).max() > 0.01
    assert not wave[silent : int(1.5 * RATE)].any()


@both
def test_pitches_beyond_a_piano_sound(sound: str) -> None:
    instrument = {"piano": piano, "additive": additive}[sound]
    for pitch in (0, 120):
        tone = instrument.tone(pitch, 100, RATE // 4)
        assert len(tone) == RATE // 4
        assert np.abs(tone).max() > 0.01


@both
def test_no_notes_is_silence(sound: str) -> None:
    assert not synthesise(make_notes([]), sound).any()


def test_wave_file(tmp_path: Path) -> None:
    write_wave(np.array([0.0, 0.5, -1.0], np.float32), tmp_path / "a.wav")
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getframerate()) == (1, RATE)
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [0, 16383, -32767]


def test_pieces_have_three_files_and_degenerate_ones_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_pieces([tune(0), make_notes([])], tmp_path / "samples")
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == [
        f"0{i}.{ending}" for i in (0, 1) for ending in ("mid", "png", "wav")
    ]
    assert [p.name for p in one_per_sample(paths)] == ["00.mid", "01.mid"]
    assert sorted(paths) == sorted((tmp_path / "samples").iterdir())
    out = capsys.readouterr().out
    assert "01.mid is degenerate: silence" in out
    assert "00.mid" not in out
