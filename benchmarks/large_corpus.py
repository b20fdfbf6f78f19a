"""A folder of many MIDI files: how long reading, a second start and a short run take.

    PYTHONPATH=. python benchmarks/large_corpus.py OUT [--files 2898] [--source FOLDER]

OUT/corpus gets the files: generated tunes, or excerpts of the pieces below FOLDER at many
transpositions and tempos. An existing corpus is used again. The caches are in OUT, too.
"""

from __future__ import annotations

import argparse
import struct
from pathlib import Path

import numpy as np

from datamodules.midi_files import midi_files
from musegen.codecs.midi import read_notes

TICKS = 480
NOTES_PER_FILE = 1_605
"""POP909 has 9.3 million messages in 2,898 files."""
TRACKS = 3


def write_corpus(folder: Path, files: int, source: Path | None, notes: int) -> None:
    """Write the files, each with `notes` notes in three tracks."""
    if folder.exists() and len(list(folder.iterdir())) == files:
        return
    folder.mkdir(parents=True, exist_ok=True)
    pieces = [] if source is None else [_in_ticks(path) for _, path in midi_files(source)]
    for i in range(files):
        rng = np.random.default_rng([i, 7])
        rows = excerpt(pieces, notes, rng) if pieces else tune(notes, rng)
        (folder / f"{i:05d}.mid").write_bytes(midi_bytes(rows, int(rng.integers(400, 800)) * 1000))


def _in_ticks(path: Path) -> np.ndarray:
    """(N, 4): onset and length in ticks, pitch, velocity."""
    notes = read_notes(path, seconds_per_beat=1.0)
    onset = np.round(notes["start"] * TICKS)
    length = np.maximum(1, np.round(notes["end"] * TICKS) - onset)
    return np.stack([onset, length, notes["pitch"], notes["velocity"]], axis=1).astype(np.int64)


def excerpt(pieces: list[np.ndarray], notes: int, rng: np.random.Generator) -> np.ndarray:
    """Notes of successive pieces from a random place on, transposed."""
    place, rows, clock = int(rng.integers(len(pieces))), [], 0
    skipped = int(rng.integers(len(pieces[place])))
    while sum(map(len, rows)) < notes:
        part = pieces[place % len(pieces)][skipped:][: notes - sum(map(len, rows))].copy()
        if len(part):
            part[:, 0] += clock - part[0, 0]
            clock = part[-1, 0] + TICKS
            rows.append(part)
        place, skipped = place + 1, 0
    result = np.concatenate(rows)
    result[:, 2] = np.clip(result[:, 2] + rng.integers(-12, 13), 21, 108)
    return result


def tune(notes: int, rng: np.random.Generator) -> np.ndarray:
    """A melody and broken chords over a random walk of roots."""
    step = rng.choice([0, 60, 120, 120, 240], notes)
    onset = np.cumsum(step)
    root = 48 + np.cumsum(rng.choice([-5, -2, 0, 0, 2, 5], notes // 16 + 1)) % 12
    pitch = root[np.arange(notes) // 16] + rng.choice([0, 4, 7, 12, 16, 19, 24], notes)
    length, velocity = rng.choice([60, 120, 240, 480], notes), rng.integers(40, 110, notes)
    return np.stack([onset, length, pitch, velocity], axis=1)


def midi_bytes(rows: np.ndarray, tempo: int) -> bytes:
    """A file of format 1: a track with the tempo and the time signature, and three with notes."""
    end = b"\0\xff\x2f\0"
    conductor = b"\0\xff\x51\3" + tempo.to_bytes(3, "big") + b"\0\xff\x58\4\4\2\x18\x08" + end
    tracks = [conductor, *(_track(rows[k::TRACKS], k) + end for k in range(TRACKS))]
    chunks = [b"MTrk" + struct.pack(">L", len(content)) + content for content in tracks]
    return b"MThd" + struct.pack(">LHHH", 6, 1, len(tracks), TICKS) + b"".join(chunks)


def _track(rows: np.ndarray, channel: int) -> bytes:
    n = len(rows)
    tick = np.r_[rows[:, 0], rows[:, 0] + rows[:, 1]]
    status = np.repeat([0x90 + channel, 0x80 + channel], n)
    order = np.lexsort((status, tick))
    delta = np.diff(tick[order], prepend=0).clip(max=(1 << 14) - 1)
    velocity = np.r_[rows[:, 3], np.full(n, 64)]
    columns = (
        delta >> 7 | 0x80, delta & 0x7F, status[order], np.r_[rows[:, 2], rows[:, 2]][order],
        velocity[order],
    )  # fmt: skip
    table = np.stack(columns, axis=1)
    used = np.ones(table.shape, bool)
    used[:, 0] = delta > 0x7F
    return table[used].astype(np.uint8).tobytes()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--files", type=int, default=2898)
    parser.add_argument("--source", type=Path)
    options = parser.parse_args()
    write_corpus(options.out / "corpus", options.files, options.source, NOTES_PER_FILE)


if __name__ == "__main__":
    main()
