"""The synthesiser, measured: pitch, level, clicks."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from conftest import make_notes, tune

from musegen.render.audio import RATE, synthesise, write_wave
from musegen.render.files import write_pieces


def measured_frequency(sound: np.ndarray) -> float:
    """The strongest spectral line, to a fraction of a bin (parabola through three points)."""
    spectrum = np.log(np.abs(np.fft.rfft(sound * np.hanning(len(sound)), 1 << 19)) + 1e-12)
    peak = int(spectrum.argmax())
    left, centre, right = spectrum[peak - 1 : peak + 2]
    return (peak + 0.5 * (left - right) / (left - 2 * centre + right)) * RATE / (1 << 19)


@pytest.mark.parametrize("pitch", [21, 45, 57, 69, 81, 93, 108])
def test_in_tune_within_5_cents(pitch: int) -> None:
    sound = synthesise(make_notes([(0.0, 2.0, pitch, 100)]))
    wanted = 440 * 2 ** ((pitch - 69) / 12)
    low, high = wanted * 0.9, wanted * 1.1
    spectrum = np.fft.rfft(sound)
    hertz = np.fft.rfftfreq(len(sound), 1 / RATE)
    spectrum[(hertz < low) | (hertz > high)] = 0  # the fundamental, also where a partial is louder
    cents = 1200 * np.log2(measured_frequency(np.fft.irfft(spectrum, len(sound))) / wanted)
    assert abs(cents) < 5


def test_not_silent_and_never_clipped() -> None:
    for notes in (tune(0), make_notes([(0.0, 1.0, p, 127) for p in range(21, 109)])):
        sound = synthesise(notes)
        assert np.abs(sound).max() == pytest.approx(0.9, abs=1e-4)
        assert np.sqrt((sound**2).mean()) > 0.01


def test_louder_velocity_is_louder() -> None:
    sound = synthesise(make_notes([(0.0, 1.0, 60, 40), (2.0, 3.0, 60, 120)]))
    soft, loud = np.abs(sound[:RATE]).max(), np.abs(sound[2 * RATE :]).max()
    assert loud / soft == pytest.approx(9, rel=0.05)


@pytest.mark.parametrize("end", [0.001, 0.013, 0.5, 20.0])
def test_no_clicks(end: float) -> None:
    """A low sine moves slowly: any jump between samples at its start or end would be a click."""
    sound = synthesise(make_notes([(0.1, 0.1 + end, 33, 127)]))
    assert np.abs(np.diff(sound, prepend=0, append=0)).max() < 0.12


def test_no_notes_is_silence() -> None:
    assert not synthesise(make_notes([])).any()


def test_wave_file(tmp_path: Path) -> None:
    write_wave(np.array([0.0, 0.5, -1.0], np.float32), tmp_path / "a.wav")
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getnchannels(), file.getframerate()) == (1, RATE)
        assert np.frombuffer(file.readframes(3), "<i2").tolist() == [0, 16383, -32767]


def test_pieces_are_written_in_three_forms_and_bad_ones_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_pieces([tune(0), make_notes([])], tmp_path / "samples")
    assert sorted(p.name for p in (tmp_path / "samples").iterdir()) == [
        f"0{i}.{ending}" for i in (0, 1) for ending in ("mid", "png", "wav")
    ]
    assert [p.name for p in paths] == ["00.mid", "01.mid"]
    out = capsys.readouterr().out
    assert "01.mid degenerated: silence" in out
    assert "00.mid" not in out
