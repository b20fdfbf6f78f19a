"""The recorded piano: in tune, without clicks, louder and brighter with the velocity."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import make_notes

from musegen.render import piano
from musegen.render.additive import frequency
from musegen.render.audio import RELEASE, mix, synthesise
from musegen.render.waveform import RATE

MAX_CENTS = 5
LOWEST_PARTIALS = 6
"""Higher partials of a stiff string are too sharp to say what the pitch is."""


def power_spectrum(sound: np.ndarray, pitch: int) -> tuple[np.ndarray, np.ndarray]:
    """(Hz, power) of the lowest partials, 50 ms after the onset and later."""
    sound = sound[int(0.05 * RATE) :]
    size = 1 << 18
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)), size)) ** 2
    hertz = np.arange(len(power)) * RATE / size
    partials = hertz / frequency(pitch)
    lowest = (partials > 0.8) & (partials < LOWEST_PARTIALS + 0.5)
    return hertz[lowest], power[lowest]


def cents_of_the_strongest_partial(sound: np.ndarray, pitch: int) -> float:
    hertz, power = power_spectrum(sound, pitch)
    strongest = hertz[power.argmax()]
    return float(1200 * np.log2(strongest / round(strongest / frequency(pitch)) / frequency(pitch)))


def cents_of_the_autocorrelation(sound: np.ndarray, pitch: int) -> float:
    """The lag of its peak: the autocorrelation is the inverse transform of the power spectrum."""
    hertz, power = power_spectrum(sound, pitch)
    strong = power > 1e-6 * power.max()
    cents = np.arange(-30, 31, 0.5)
    lags = 2 ** (-cents / 1200) / frequency(pitch)
    correlation = np.cos(2 * np.pi * np.outer(lags, hertz[strong])) @ power[strong]
    return float(cents[correlation.argmax()])


@pytest.mark.parametrize("pitch", range(21, 109))
def test_every_key_is_in_tune_within_5_cents(pitch: int) -> None:
    sound = synthesise(make_notes([(0.0, 2.0, pitch, 100)]))
    assert abs(cents_of_the_strongest_partial(sound, pitch)) < MAX_CENTS
    assert abs(cents_of_the_autocorrelation(sound, pitch)) < MAX_CENTS


def test_the_measurements_of_pitch_see_a_mistuned_note() -> None:
    """A note that is played 10 cents too fast is 10 cents sharp."""
    bright, _ = piano.strings(60)
    sharp = piano.faster(bright.astype(float), 2 ** (10 / 1200))
    for measure in (cents_of_the_strongest_partial, cents_of_the_autocorrelation):
        assert measure(sharp, 60) - measure(bright, 60) == pytest.approx(10, abs=0.6)


@pytest.mark.parametrize("pitch", [21, 35, 60, 83, 108])
def test_a_louder_velocity_is_louder_and_brighter(pitch: int) -> None:
    notes = [make_notes([(0.0, 1.0, pitch, velocity)]) for velocity in range(1, 128, 6)]
    sounds = [mix(n, piano) for n in notes]
    spectra = [np.abs(np.fft.rfft(s)) ** 2 for s in sounds]
    hertz = np.fft.rfftfreq(len(sounds[0]), 1 / RATE)
    levels = [np.sqrt((s**2).mean()) for s in sounds]
    centroids = [(hertz * spectrum).sum() / spectrum.sum() for spectrum in spectra]
    assert (np.diff(levels) > 0).all()
    assert (np.diff(centroids) > 0).all()


def test_neighbouring_keys_have_similar_levels() -> None:
    levels = [np.sqrt((piano.tone(p, 100, RATE // 2) ** 2).mean()) for p in range(21, 109)]
    decibels = 20 * np.log10(levels)
    assert np.abs(np.diff(decibels)).max() < 2
    assert decibels.max() - decibels.min() < 20


@pytest.mark.parametrize("length", [0.0005, 0.013, 0.5, 20.0])
@pytest.mark.parametrize("pitch", [21, 34, 60, 83, 108])
def test_no_clicks(pitch: int, length: float) -> None:
    """The first and the last samples are close to 0, and the release makes no larger steps than
    the string itself; also for a note that is shorter than its fades, and for one that is longer
    than its string."""
    string = piano.tone(pitch, 127, 1_000_000)
    sound = mix(make_notes([(0.1, 0.1 + length, pitch, 127)]), piano)
    onset, tail = int(0.1 * RATE), int(RELEASE * RATE)
    end = onset + min(int(length * RATE) + tail, len(string))
    released = end - tail
    assert not sound[:onset].any()
    assert np.abs(sound[onset : onset + 3]).max() < 0.01 * np.abs(string).max()
    np.testing.assert_array_equal(sound[onset:released], string[: released - onset])
    steps = np.abs(np.diff(sound[released - 1 : end + 1]))
    assert steps.max() <= 1.05 * np.abs(np.diff(string[released - onset - 1 : end - onset])).max()
    assert np.abs(sound[end - 3 : end]).max() < 1e-3
    assert not sound[end:].any()


def test_the_samples_are_small_and_their_licence_is_beside_them() -> None:
    licence = (piano.FOLDER / "LICENSE").read_text(encoding="utf-8")
    for text in ("Salamander Grand Piano", "Alexander Holm", "creativecommons.org/licenses/by/3.0"):
        assert text in licence
    assert sum(p.stat().st_size for p in piano.FOLDER.iterdir() if p.is_file()) < 300_000
