"""MIDI files → rolls: time, tempo, key, splits; and the files of the benchmark."""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from pathlib import Path

import download_server as downloads
import mido
import numpy as np
import pytest
import scipy.io
from conftest import make_notes, tune
from download_server import start_server  # noqa: F401

from datamodules import roll_files
from datamodules.midi_files import midi_files
from datamodules.roll_files import BachChorales, NottinghamTunes, RollFolder
from musegen.cli import train as train_module
from musegen.codecs.midi import read_notes, write_notes
from musegen.codecs.roll_codec import RollCodec
from musegen.codecs.tonality import semitones_to_c
from musegen.errors import UserError

SCALE = {"major": [0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0], "minor": [0, 2, 3, 5, 7, 8, 11, 12, 7, 3, 0]}


def ready(root: Path, **settings) -> RollFolder:
    data = RollFolder(root, **settings)
    data.prepare_data()
    return data


def test_every_file_becomes_the_roll_of_its_notes(midi_folder: Path) -> None:
    data = ready(midi_folder, dt=0.125)
    assert {s: len(r) for s, r in data.rolls.items()} == {"train": 4, "val": 1, "test": 1}
    expected = [RollCodec(dt=0.125).encode(read_notes(p)) for _, p in midi_files(midi_folder)]
    found = sum(data.rolls.values(), [])
    assert {r.tobytes() for r in found} == {r.tobytes() for r in expected}


def test_folder_names_give_the_split(tmp_path: Path) -> None:
    for i, split in enumerate(("train", "train", "valid", "test")):
        (tmp_path / split).mkdir(exist_ok=True)
        write_notes(tune(i), tmp_path / split / f"{i}.mid")
    data = ready(tmp_path)
    expected = RollCodec().encode(read_notes(tmp_path / "valid" / "2.mid"))
    np.testing.assert_array_equal(data.rolls["val"][0], expected)
    assert len(data.rolls["train"]) == 2


def save_at(tempo: int, path: Path, pitches: list[int], ticks_per_beat: int = 96) -> None:
    """Write eighth notes. In the middle the tempo is doubled."""
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)])
    for i, pitch in enumerate(pitches):
        if i == len(pitches) // 2:
            track.append(mido.MetaMessage("set_tempo", tempo=tempo // 2))
        track.append(mido.Message("note_on", note=pitch, velocity=64))
        track.append(mido.Message("note_off", note=pitch, time=abs(ticks_per_beat) // 2))
    mido.MidiFile(ticks_per_beat=ticks_per_beat, tracks=[track]).save(path)


def test_frames_per_beat_do_not_depend_on_the_tempo(tmp_path: Path) -> None:
    """With two frames per beat an eighth note is one frame at any tempo."""
    pitches = [60, 62, 64, 65, 67, 69, 71, 72]
    for i, tempo in enumerate((300_000, 500_000, 1_234_567)):
        save_at(tempo, tmp_path / f"{i}.mid", [p + i for p in pitches])
    data = ready(tmp_path, frames_per_beat=2, dt=0.2)
    for name, roll_TP, _ in data.all_rolls():
        assert (np.argwhere(roll_TP)[:, 1] + 21 - int(name[0])).tolist() == pitches
        assert len(roll_TP) == 8
    assert {len(f.array) for f in ready(tmp_path, dt=0.25).all_rolls()} != {8}
    assert {len(f.array) for f in ready(tmp_path, frames_per_beat=4).all_rolls()} == {16}


@pytest.mark.parametrize("mode", SCALE)
@pytest.mark.parametrize("tonic", range(12))
def test_the_tonic_is_transposed_to_c(tonic: int, mode: str) -> None:
    rows = [(i, i + 1 + (p % 12 == 0), 55 + tonic + p, 80) for i, p in enumerate(SCALE[mode])]
    shift = semitones_to_c(make_notes(rows))
    assert -5 <= shift <= 6
    assert (55 + tonic + shift) % 12 == 0


def test_common_key_transposes_every_piece(tmp_path: Path) -> None:
    for i in range(3):
        rows = [(k, k + 1, 62 + i + p, 80) for k, p in enumerate(SCALE["major"])]
        write_notes(make_notes(rows), tmp_path / f"{i}.mid")
    rolls = [f.array for f in ready(tmp_path, common_key=True, dt=1).all_rolls()]
    assert (np.flatnonzero(rolls[0][0]) + 21).tolist() == [60]
    assert all(np.array_equal(r, rolls[0]) for r in rolls)
    assert semitones_to_c(make_notes([])) == 0


def test_notes_above_the_highest_midi_note_are_left_out(tmp_path: Path) -> None:
    """The highest note of a piece in F is the highest MIDI note (127, a G) before transposition."""
    rows = [(k, k + 1, 114 + p, 80) for k, p in enumerate(SCALE["major"])]
    for i in range(3):
        write_notes(make_notes([*rows, (20.0 + i, 21.0 + i, 127, 80)]), tmp_path / f"{i}.mid")
    rolls = ready(tmp_path, common_key=True, dt=1, pitch_range=(0, 128)).all_rolls()
    assert [np.flatnonzero(f.array[0]).tolist() for f in rolls] == [[120]] * 3


def test_files_without_a_roll_are_named_in_one_warning(midi_folder: Path) -> None:
    write_notes(make_notes([(0.0, 1.0, 5, 80)]), midi_folder / "low.mid")
    write_notes(make_notes([(0.0, 9000.0, 60, 80)]), midi_folder / "long.mid")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        rolls = RollFolder(midi_folder, dt=0.03).all_rolls()
    (warned,) = [str(w.message) for w in caught if "left out" in str(w.message)]
    assert warned.startswith("2 of 8 MIDI files left out: long.mid: 300,000 frames of dt=0.03 s")
    assert "low.mid: no note within pitch_range" in warned
    assert len(rolls) == 6


def test_a_folder_without_rolls_is_refused(midi_folder: Path) -> None:
    with pytest.raises(
        UserError, match="none of 6 pieces gives a roll; the first one: .*pitch_range"
    ):
        RollFolder(midi_folder, pitch_range=(0, 10)).setup()
    with pytest.raises(UserError, match=r"add data\.root=DIR"):
        RollFolder().setup()
    with pytest.raises(UserError, match="frames_per_beat=0"):
        RollFolder(frames_per_beat=0)


def test_a_file_without_beats_is_refused(tmp_path: Path) -> None:
    save_at(500_000, tmp_path / "a.mid", [60, 62], ticks_per_beat=-(25 << 8) + 40)
    with pytest.raises(UserError, match=r"a\.mid: has SMPTE time and no beats"):
        RollFolder(tmp_path, frames_per_beat=2).setup()


def test_seconds_and_beats_have_separate_caches(midi_folder: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    for settings in ({}, {"frames_per_beat": 2}, {"frames_per_beat": 4, "common_key": True}):
        RollFolder(midi_folder, cache_dir=cache, **settings).setup()
    assert len(list((cache / "notes").glob("*-v*.npy"))) == 2
    assert len(list((cache / "notes").glob("*-beats.npy"))) == 1


def test_an_rbm_is_trained_on_the_frames_of_a_folder(
    midi_folder: Path, tmp_path: Path, cli
) -> None:
    code, _, err = cli(
        train_module.main, "model=rbm", "data=piano_roll_folder", f"data.root={midi_folder}",
        "data.view=frames", "data.dt=0.3", "data.pitch_range=[21,109]", "data.batch_size=20",
        "model.hidden=5", "trainer.max_epochs=1", "assess.chains=0", "assess.reverse_rows=0",
        "sample.n=1", "sample.rows=1", "sample.steps=1", f"hydra.run.dir={tmp_path}/run",
    )  # fmt: skip
    assert code == 0, err
    assert (tmp_path / "run" / "samples" / "sheet.png").exists()


def test_chorales_are_read_from_the_converted_folder(midi_folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(roll_files, "convert_chorales", lambda cache, in_parallel: midi_folder)
    data = BachChorales()
    data.setup()
    assert data.rolls.keys() == {"train", "val", "test"}


@pytest.mark.parametrize("given", ["unpacked", "downloaded"])
def test_the_nottingham_tunes(given: str, tmp_path: Path, server: str, monkeypatch) -> None:
    monkeypatch.delenv("MUSEGEN_DATA", raising=False)
    archive = tmp_path / "Nottingham.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for i, split in enumerate(("train", "train", "valid", "test")):
            write_notes(tune(i), tmp_path / "tune.mid")
            zipped.write(tmp_path / "tune.mid", f"Nottingham/{split}/{i}.mid")
    if given == "unpacked":
        zipfile.ZipFile(archive).extractall(tmp_path / "tunes")
        data = NottinghamTunes(root=tmp_path / "tunes")
    else:
        monkeypatch.setattr(downloads, "CONTENT", archive.read_bytes())
        sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
        monkeypatch.setattr(roll_files, "NOTTINGHAM_SHA256", sha256)
        monkeypatch.setattr(roll_files, "NOTTINGHAM_URLS", (f"{server}/good",))
        data = NottinghamTunes()
    data.prepare_data()
    assert {s: len(r) for s, r in data.rolls.items()} == {"train": 2, "val": 1, "test": 1}
    expected = RollCodec(dt=0.3).encode(tune(3))
    np.testing.assert_array_equal(data.rolls["test"][0], expected)


def test_a_folder_without_the_nottingham_split_is_refused(midi_folder: Path) -> None:
    with pytest.raises(UserError, match="has no folder train/"):
        NottinghamTunes(root=midi_folder).setup()


@pytest.mark.real_data
def test_the_real_tunes_have_the_frames_of_the_tutorial(real_data: Path) -> None:
    """Two training tunes are there twice, and one is also in validation."""
    data = NottinghamTunes(root=real_data / "nottingham_midi")
    with pytest.warns(
        UserWarning,
        match=r"134\.mid: the same notes as valid/",
    ):
        data.prepare_data()
    counts = {s: (len(r), sum(map(len, r))) for s, r in data.rolls.items()}
    assert counts == {"train": (691, 147_058), "val": (173, 38_073), "test": (170, 37_200)}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("split", "key", "exact", "in_c", "less", "files"),
    [("train", "traindata", 656, 645, 37, 694), ("valid", "validdata", 159, 157, 14, 173),
     ("test", "testdata", 157, 154, 13, 170)],
)  # fmt: skip
def test_nottingham_gives_the_benchmarks_rolls(
    real_data: Path, split: str, key: str, exact: int, in_c: int, less: int, files: int
) -> None:
    """Sampled at eighth notes and transposed, the files give the benchmark's rolls.

    There are three differences, by which the benchmark has fewer notes:

    - It has no frame for the first eighth note.
    - It samples a little before the middle of a frame. If two sixteenth notes meet there, the
      sample is in the gap of one tick between them and has neither note. The 0.5 ms below do the
      same. (Without them 801 of the 1,037 files are equal to the bit, with them 972.)
    - In 64 files it leaves out notes that are played again before their release.

    One training file, morris_simple_chords_2.mid, has no roll of its length in the benchmark. Of
    the 972 files, `in_c` have the transposition of the benchmark.
    """
    benchmark = scipy.io.loadmat(real_data / "icml2012" / "Nottingham.mat")[key].ravel()
    known = {r.tobytes() for r in benchmark}
    codec = RollCodec((0, 128), dt=0.25)
    n_exact = n_in_c = n_less = 0
    paths = sorted((real_data / "nottingham_midi" / split).glob("*.mid"))
    for path in paths:
        notes = read_notes(path, overlapping=True)
        for column in ("start", "end"):
            notes[column] += 0.0005
        roll_TP = codec.encode(notes)[1:]
        transposed = {s: np.roll(roll_TP, s, axis=1)[:, 21:109] for s in range(-7, 8)}
        if shifts := [s for s, r in transposed.items() if r.tobytes() in known]:
            n_exact += 1
            n_in_c += (shifts[0] - semitones_to_c(notes)) % 12 == 0
        else:
            n_less += any(
                len(r) == len(b) and not (b > r).any() and b.sum() > 0.8 * r.sum()
                for r in transposed.values()
                for b in benchmark
            )
    assert (n_exact, n_in_c, n_less, len(paths)) == (exact, in_c, less, files)
