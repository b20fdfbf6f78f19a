"""Samples are written into files by the kind of data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from musegen.codecs.midi import read_notes
from musegen.codecs.roll_codec import RollCodec
from musegen.render.samples import one_per_sample, write_samples
from musegen.specs import Rolls


@pytest.mark.parametrize("repeats", ["sustain", "retrigger"])
def test_rolls_are_written_as_midi_audio_and_picture(tmp_path: Path, repeats: str) -> None:
    codec = RollCodec((60, 65), 0.1, repeats)
    rolls = [np.random.default_rng(i).integers(0, 2, (12, 5)) for i in (0, 1)]
    for roll_TP in rolls:
        roll_TP[-1, 0] = 1
    paths = one_per_sample(write_samples(Rolls(5), [codec.decode(r) for r in rolls], tmp_path))
    assert [p.name for p in paths] == ["00.mid", "01.mid"]
    for path, roll_TP in zip(paths, rolls, strict=True):
        np.testing.assert_array_equal(codec.encode(read_notes(path)), roll_TP)
        assert path.with_suffix(".wav").stat().st_size > 44 + 2 * 1.2 * 8000
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
