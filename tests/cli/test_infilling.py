"""`musegen generate infill=`: by pretrained models, from a MIDI file to a MIDI file."""

from __future__ import annotations

import numpy as np
import pytest

from musegen.cli import generate
from musegen.codecs.midi import NOTES, read_notes, read_score, write_notes
from musegen.codecs.midi_layout import MidiLayout, with_layout

BEAT = 60 / 90
"""Seconds of a quarter note."""


@pytest.fixture
def piece(tmp_path):
    """Six bars of 3/4 at 90 quarter notes per minute: a scale over held notes."""
    rows = [(k * BEAT, (k + 1) * BEAT, 60 + k % 8, 70) for k in range(18)]
    rows += [(3 * k * BEAT, 3 * (k + 1) * BEAT, 48 + k % 2, 60) for k in range(6)]
    notes = np.array(sorted(rows), NOTES)
    write_notes(with_layout(notes, MidiLayout(BEAT, 480, (3, 4))), tmp_path / "piece.mid")
    return tmp_path / "piece.mid"


@pytest.mark.parametrize("run", ["jsb", "mozart"])
def test_two_bars_are_written_again_and_the_others_stay(run, piece, tmp_path, cli) -> None:
    out = tmp_path / "out"
    region = f"region=[{6 * BEAT},{12 * BEAT}]"
    settings = ("n=2", "sweeps=0", "formats=[mid]", "seed=3", f"out={out}")
    code, printed, err = cli(generate.main, f"run={run}", f"infill={piece}", region, *settings)
    assert code == 0, err
    assert [line.split("/")[-1] for line in printed.split()] == ["00.mid", "01.mid"]
    old, found = read_notes(piece), []
    inside = (old["start"] > 6 * BEAT - 1e-3) & (old["start"] < 12 * BEAT - 1e-3)
    for name in ("00.mid", "01.mid"):
        new = read_notes(out / name)
        score = read_score(out / name)
        assert score.seconds_per_beat == pytest.approx(BEAT, rel=1e-5)
        assert score.bars["length"].tolist() == [3.0]
        rows = {tuple(np.round(n.tolist(), 4)) for n in new}
        assert {tuple(np.round(n.tolist(), 4)) for n in old[~inside]} <= rows
        fresh = [r for r in rows if 6 * BEAT - 1e-3 < r[0] < 12 * BEAT - 1e-3]
        ticks = np.array([row[0] for row in fresh]) / BEAT * 24
        np.testing.assert_allclose(ticks, np.round(ticks), atol=0.01)  # on the beat's grid
        found.append(fresh)
    assert sorted(found[0]) != sorted(found[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["run=names18", "infill={piece}"], "char_rnn cannot rewrite a region"),
        (["run=jsb", "region=[1,2]"], "region=[1.0, 2.0]: of which file? infill=my.mid is missing"),
        (["run=jsb", "infill={piece}", "region=[2,2]"], "region=[2,2]"),
        (["run=jsb", "infill={piece}", "region=[2]"], "region=[2]"),
        (["run=jsb", "infill={piece}", "region=[200,300]"], "outside the piece"),
        (["run=jsb", "infill={piece}", "keep=tenor"], "keep=tenor"),
        (["run=mozart", "infill={piece}", "length=3"], "generate.length: no such setting"),
        (["run=mozart", "infill=no.mid"], "no.mid: cannot be read"),
    ],
)
def test_refusals_are_one_line(settings, message, piece, cli) -> None:
    code, out, err = cli(generate.main, *(s.format(piece=piece) for s in settings))
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


def test_help_explains_the_settings(cli) -> None:
    code, out, _ = cli(generate.main, "run=jsb", "--help")
    assert code == 0
    assert "settings of biaxial_lstm with infill=" in out
    for setting in ("infill", "region", "keep", "pitches", "sweeps"):
        assert f"\n  {setting}  " in out
