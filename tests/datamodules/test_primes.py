"""A prime is read in the same way as the files that the model was trained on."""

from __future__ import annotations

from pathlib import Path

import mido
import numpy as np
import pytest
from conftest import make_notes

from datamodules.message_streams import MidiFolder
from datamodules.roll_benchmark import RollBenchmark
from datamodules.roll_files import RollFolder
from musegen.codecs.messages import MessageCodec
from musegen.codecs.midi import write_notes
from musegen.codecs.roll_codec import RollCodec
from musegen.models.lstm_midi import LSTMMidi
from musegen.models.rnn_rbm import RNNRBM

SCALE = [0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Scales in eighth notes, each in another key and at another tempo."""
    for i, tempo in enumerate((300_000, 450_000, 1_000_000)):
        track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=tempo)])
        for step in SCALE:
            track.append(mido.Message("note_on", note=62 + i + step))
            track.append(mido.Message("note_off", note=62 + i + step, time=240))
        mido.MidiFile(ticks_per_beat=480, tracks=[track]).save(tmp_path / f"{i}.mid")
    return tmp_path


SETTINGS = [
    {"frames_per_beat": 2, "common_key": True},
    {"frames_per_beat": 4},
    {"common_key": True},
    {},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_an_rnn_rbm_reads_a_prime_like_its_training_files(settings: dict, root: Path) -> None:
    data = RollFolder(root, dt=0.2, **settings)
    model = RNNRBM(data.spec, data.codec, hidden=2, recurrent=2, k=1)
    # The hyper-parameters in a checkpoint are enough; the data module is not needed.
    again = RNNRBM(model.spec, model.hparams["codec"], hidden=2, recurrent=2, k=1)
    for name, roll_TP, _ in data.all_rolls():
        (piece,) = again.generate(1, length=1, steps=1, prime=root / name, include_prime=True)
        prime_TP = RollCodec(dt=0.2).encode(piece)[: len(roll_TP)]
        np.testing.assert_array_equal(prime_TP, roll_TP)


def test_a_prime_for_the_benchmark_is_read_as_eighth_notes_in_c(root: Path) -> None:
    for name, per_beat in (("Nottingham", 2), ("JSB_Chorales", 1)):
        data = RollBenchmark(name, dt=0.25)
        assert data.codec == RollCodec(dt=0.25, frames_per_beat=per_beat, common_key=True)
    roll_TP = RollBenchmark("MuseData", dt=0.3).codec.read(root / "2.mid")
    assert (np.argwhere(roll_TP)[:, 1] + 21).tolist() == [60 + step for step in SCALE]
    assert RollBenchmark("MuseData", view="frames").codec is None


@pytest.mark.parametrize("sustain", [False, True])
def test_an_lstm_reads_the_pedal_of_a_prime_as_in_training(sustain: bool, tmp_path: Path) -> None:
    for i in range(3):
        write_notes(make_notes([(0.0, 1.0, 60 + i, 80), (1.0, 2.0, 62, 80)]), tmp_path / f"{i}.mid")
    file = mido.MidiFile(tmp_path / "0.mid")
    file.tracks[1].insert(0, mido.Message("control_change", control=64, value=127))
    file.tracks[1].insert(-1, mido.Message("control_change", control=64, value=0, time=500))
    file.save(tmp_path / "0.mid")
    data = MidiFolder(tmp_path, sustain=sustain, codec=MessageCodec(time_bins=20))
    data.setup()
    assert data.codec == MessageCodec(time_bins=20, sustain=sustain)
    model = LSTMMidi(data.spec, data.codec, hidden=2)
    (piece,) = (p for pieces in data.pieces.values() for p in pieces if p.name == "0.mid")
    np.testing.assert_array_equal(model.codec.read(tmp_path / "0.mid"), piece.stream)
    (primed,) = model.generate(1, length=1, prime=tmp_path / "0.mid", include_prime=True)
    assert (primed["end"][0] > 1.5) == sustain
