"""A folder of MIDI files → pieces → batches."""

from __future__ import annotations

import functools
import json
import operator
import os
import shutil
import warnings
from pathlib import Path

import mido
import numpy as np
import pytest
from conftest import make_notes, tune

from datamodules.message_streams import MidiFolder
from musegen.codecs.messages import MessageCodec, notes_to_messages
from musegen.codecs.midi import read_notes, write_notes
from musegen.errors import UserError


def ready(folder: Path, **settings) -> MidiFolder:
    data = MidiFolder(folder, **settings)
    data.prepare_data()
    data.setup()
    return data


def test_pieces_are_read_and_split(midi_folder: Path) -> None:
    data = ready(midi_folder)
    assert {k: len(v) for k, v in data.pieces.items()} == {"train": 4, "val": 1, "test": 1}
    for piece in functools.reduce(operator.iadd, data.pieces.values(), []):
        expected = notes_to_messages(read_notes(midi_folder / piece.name))
        np.testing.assert_array_equal(piece.stream, expected)
    names = {p.name for p in functools.reduce(operator.iadd, data.pieces.values(), [])}
    assert "more/tune5.mid" in names
    assert data.describe().startswith("train 4 pieces / 320 messages, val 1")


def test_training_notes_are_the_notes_of_the_files(midi_folder: Path) -> None:
    data = ready(midi_folder)
    for notes, piece in zip(data.notes("train"), data.pieces["train"], strict=True):
        file = read_notes(midi_folder / piece.name)
        np.testing.assert_array_equal(notes[["pitch", "velocity"]], file[["pitch", "velocity"]])
        np.testing.assert_allclose(notes["start"], file["start"], atol=1e-4)
    (narrow, *_) = ready(midi_folder, codec=MessageCodec((56, 60))).notes("train")
    assert 56 <= narrow["pitch"].min() <= narrow["pitch"].max() < 60


def test_scores_are_read_in_beats(midi_folder: Path) -> None:
    data = ready(midi_folder, codec=MessageCodec(time_unit="beats"))
    assert data.tempo == 0
    assert data.spec.clock == 24
    for piece in data.pieces["train"]:
        expected = data.codec.read(midi_folder / piece.name)
        np.testing.assert_array_equal(piece.stream, expected)
        quantised = data.codec.quantise(piece.stream)["time"]
        np.testing.assert_allclose(quantised, expected["time"], atol=1e-9)  # quarters of a beat
    seconds = ready(midi_folder)
    for notes, played in zip(data.notes("train"), seconds.notes("train"), strict=True):
        np.testing.assert_allclose(notes["end"], played["end"], atol=1e-3)
    with pytest.raises(UserError, match=r"data\.tempo=0\.1: times in beats have no tempo"):
        MidiFolder(midi_folder, codec=MessageCodec(time_unit="beats"), tempo=0.1)


def test_the_spec_does_not_need_the_files() -> None:
    assert MidiFolder(Path("/nowhere")).spec == MessageCodec().spec


def test_the_second_setup_reads_the_cache(midi_folder: Path, monkeypatch) -> None:
    first = ready(midi_folder)
    monkeypatch.setattr(MessageCodec, "read", None)  # parsing would fail
    second = ready(midi_folder)
    for a, b in zip(first.pieces["train"], second.pieces["train"], strict=True):
        np.testing.assert_array_equal(a.stream, b.stream)


def test_the_cache_depends_on_settings_and_content(midi_folder: Path) -> None:
    cache = midi_folder.parent / "cache"
    ready(midi_folder, cache_dir=cache)
    ready(midi_folder, cache_dir=cache, sustain=True)
    write_notes(tune(9), midi_folder / "tune0.mid")
    ready(midi_folder, cache_dir=cache)
    contents = [
        len(json.loads(pack.read_text())["contents"])
        for pack in (cache / "messages").glob("*-v*.json")
    ]
    assert sorted(contents) == [1, 6, 6]
    assert len(list((cache / "messages").glob("*.npy"))) == 3


def test_a_damaged_cache_entry_is_replaced(midi_folder: Path) -> None:
    cache = midi_folder.parent / "cache"
    expected = ready(midi_folder, cache_dir=cache)
    for entry in (cache / "messages").glob("*.npy"):
        entry.write_bytes(entry.read_bytes()[:100])
    again = ready(midi_folder, cache_dir=cache)
    assert again.describe() == expected.describe()


def test_broken_files_are_left_out_and_named_in_one_warning(midi_folder: Path) -> None:
    (midi_folder / "empty.mid").touch()
    (midi_folder / "text.MIDI").write_text("not music")
    content = (midi_folder / "tune0.mid").read_bytes()
    (midi_folder / "cut.mid").write_bytes(content[:100])
    write_notes(make_notes([]), midi_folder / "silent.mid")
    shutil.copy(midi_folder / "tune1.mid", midi_folder / "copy.mid")
    corrupt = mido.MidiFile(ticks_per_beat=100)
    corrupt.tracks.append(mido.MidiTrack([
        mido.Message("note_on", note=60, time=0), mido.Message("note_off", note=60, time=2**28 - 1)
    ]))  # fmt: skip
    corrupt.save(midi_folder / "corrupt.mid")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = MidiFolder(midi_folder)
        data.setup()
    warned = [str(w.message) for w in caught if "left out" in str(w.message)]
    assert len(warned) == 1
    assert warned[0].startswith("6 of 12 MIDI files left out")
    for name in ("empty.mid", "text.MIDI", "cut.mid", "silent.mid", "tune1.mid", "corrupt.mid"):
        assert name in warned[0]
    assert sum(len(p) for p in data.pieces.values()) == 6


@pytest.mark.parametrize("broken", [False, True])
def test_a_folder_without_usable_files_is_refused(tmp_path: Path, broken: bool) -> None:
    (tmp_path / "midi").mkdir()
    if broken:
        (tmp_path / "midi" / "a.mid").write_text("not music")
        (tmp_path / "midi" / "b.mid").touch()
    message = "no usable MIDI file among 2; the first problem: .*a.mid" if broken else "no .mid or"
    with pytest.raises(UserError, match=message):
        MidiFolder(tmp_path / "midi").setup()


def test_a_root_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"add data\.root=DIR"):
        MidiFolder().setup()
    with pytest.raises(UserError, match="no such folder"):
        MidiFolder(tmp_path / "none").setup()
    (tmp_path / "file.mid").touch()
    with pytest.raises(UserError, match="not a folder"):
        MidiFolder(tmp_path / "file.mid").setup()


def test_pieces_without_a_note_in_the_pitch_range_are_refused(midi_folder: Path) -> None:
    with pytest.raises(UserError, match=r"no piece has a note within pitch_range=\(0, 10\)"):
        ready(midi_folder, codec=MessageCodec(pitch_range=(0, 10)))


def test_a_piece_can_be_shorter_than_a_window(tmp_path: Path) -> None:
    for i in range(3):
        write_notes(make_notes([(0.0, 1.0, 60 + i, 80)]), tmp_path / f"{i}.mid")
    data = ready(tmp_path, window=128, transpose=0, tempo=0)
    (rows,) = list(data.train_dataloader())
    assert rows.x_BLF.shape == (1, 129, 3)
    assert rows.mask_BT.sum() == 2
    assert rows.x_BLF[0, 0].tolist() == list(data.spec.sizes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "window=0: should be greater than or equal to 1"),
        ({"window": True}, "window=True: should be a number"),
        ({"batch_size": 0}, "batch_size=0: should be greater than or equal to 1"),
        ({"tempo": -0.1}, "tempo=-0.1: should be greater than or equal to 0"),
        ({"val_fraction": 1.0}, "val_fraction=1.0: should be less than 1"),
        ({"carry": True, "loss_on": "last"}, "carry=true trains on all positions"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        MidiFolder(Path("x"), **settings)


def test_pipes_and_folders_with_midi_names_are_ignored(midi_folder: Path) -> None:
    os.mkfifo(midi_folder / "pipe.mid")
    (midi_folder / "folder.mid").mkdir()
    assert sum(map(len, ready(midi_folder).pieces.values())) == 6
