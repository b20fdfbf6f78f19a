"""Folders of many MIDI files: how long reading, a second start and a run of two updates take.

    PYTHONPATH=. python benchmarks/large_corpus.py OUT [--files 19 187 2898] [--source FOLDER]

OUT/N gets N files of about 3,200 messages each: generated tunes, or excerpts of the pieces below
FOLDER at many transpositions and tempos. A folder that exists is used again; caches are in OUT.
Each row is measured in a process of its own, with empty caches and compiled loops:

- cold: seconds of `MidiFolder.setup`, and the CPU time of all its processes;
- again: the same in another process, with the files unchanged and at rest;
- batches: CPU time per batch of 32 windows, over the first 100 of an epoch, its plan included;
- baselines: CPU time of the n-grams;
- memory: by which the process grew during `setup` and the batches, without mapped files.

Then the CPU time per message of the two readers, alternately, on 20 files; and with --run the time
of a run of two updates on the largest folder, test, samples and report included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np

from datamodules.message_streams import MidiFolder
from datamodules.midi_files import midi_files
from musegen.baselines.by_spec import baselines
from musegen.codecs import midi_compiled
from musegen.codecs.messages import MessageCodec
from musegen.codecs.midi import read_notes

TICKS = 480
NOTES_PER_FILE = 1_660
"""POP909 has 9.3 million messages in 2,898 files. A thirtieth of the notes end others."""
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


def cpu_seconds() -> float:
    """Of this process and of those that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def own_megabytes() -> float:
    """The memory of this process that is not mapped from a file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))


def measure(folder: Path, cache: Path, everything: bool) -> dict[str, float]:
    """One start: only `setup`, or batches and baselines, too."""
    midi_compiled.prepare()
    before, wall, cpu = own_megabytes(), time.perf_counter(), cpu_seconds()
    data = MidiFolder(folder, cache_dir=cache)
    data.setup()
    found: dict[str, float] = {"wall": time.perf_counter() - wall, "cpu": cpu_seconds() - cpu}
    found["messages"] = sum(len(p.stream) for s in data.pieces.values() for p in s)
    if everything:
        cpu, batches = cpu_seconds(), 0
        for batches, _ in enumerate(data.train_dataloader(), 1):
            if batches == 100:
                break
        found["batch"] = (cpu_seconds() - cpu) / batches
        found["megabytes"] = own_megabytes() - before
        cpu = cpu_seconds()
        baselines(data)
        found["baselines"] = cpu_seconds() - cpu
    return found


def in_process(*arguments: object) -> dict[str, float]:
    """The result of `measure` in another process."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def compare_readers(folder: Path) -> float:
    """Print the CPU time per message of both readers; the median of the files' ratios."""
    codec, ratios, per_message = MessageCodec(), [], []
    midi_compiled.prepare()
    compiled = midi_compiled._loops
    for _, path in midi_files(folder)[:20]:
        seconds = []
        for midi_compiled._loops in (None, compiled):
            started = time.process_time()
            n = len(codec.read(path))
            seconds.append((time.process_time() - started) / n)
        ratios.append(seconds[0] / seconds[1])
        per_message.append(seconds)
    slow, fast = (1e6 * median(column) for column in zip(*per_message, strict=True))
    print(f"mido {slow:.2f} µs per message, compiled {fast:.3f} µs: {median(ratios):.0f} times")
    return median(ratios)


def time_run(folder: Path, cache: Path, run: Path) -> None:
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "train.py", "model=lstm_midi", "data=midi_folder",
               f"data.root={folder}", f"data.cache_dir={cache}", "trainer.max_steps=2",
               "trainer.gpus=0", f"hydra.run.dir={run}"]  # fmt: skip
    wall, cpu = time.perf_counter(), cpu_seconds()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(f"run of two updates, files read before: {time.perf_counter() - wall:.1f} s, "
          f"CPU {cpu_seconds() - cpu:.1f} s")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--files", type=int, nargs="+", default=[19, 187, 2898])
    parser.add_argument("--source", type=Path)
    parser.add_argument("--run", action="store_true")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--everything", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, options.out, options.everything)))
        return
    print("| messages | files | cold (s) | CPU (s) | µs per message | again (s) | "
          "CPU per batch (ms) | baselines, CPU (s) | memory (MB) |")  # fmt: skip
    print("|---" * 9 + "|", flush=True)
    for files in options.files:
        folder, cache = options.out / str(files), options.out / f"cache-{files}"
        write_corpus(folder, files, options.source, NOTES_PER_FILE)
        shutil.rmtree(cache, ignore_errors=True)
        os.sync()
        time.sleep(2.5)  # files that are younger are hashed again
        cold = in_process(cache, "--measure", folder)
        again = in_process(cache, "--measure", folder, "--everything")
        micro = 1e6 * cold["cpu"] / cold["messages"]
        print(f"| {cold['messages']:,.0f} | {files:,} | {cold['wall']:.2f} | {cold['cpu']:.2f} | "
              f"{micro:.2f} | {again['wall']:.2f} | {1000 * again['batch']:.1f} | "
              f"{again['baselines']:.1f} | {again['megabytes']:.0f} |", flush=True)  # fmt: skip
    compare_readers(folder)
    if options.run:
        time_run(folder, cache, options.out / "run")


if __name__ == "__main__":
    main()
