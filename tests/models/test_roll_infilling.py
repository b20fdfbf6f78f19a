"""Infilling by models of piano-rolls: against the exact conditional, and what stays as it was."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chisquare

from musegen.codecs.midi import NOTES
from musegen.codecs.midi_layout import MidiLayout, layout_of, with_layout
from musegen.codecs.roll_codec import RollCodec
from musegen.errors import UserError
from musegen.models import RNNNADE, RNNRBM, BiaxialLSTM
from musegen.models.layers import rbm_frames
from musegen.models.layers.frame_sampler import FrameSampler
from musegen.models.layers.particle_gibbs import Effort
from musegen.models.roll_model import RollModel
from musegen.runtime.steps import GenerationStopped, watching
from musegen.specs import RollBatch

pytestmark = pytest.mark.usefixtures("near_matches")

D, LOW = 3, 60
CODEC = RollCodec(pitch_range=(LOW, LOW + D), dt=0.5)
HISTORY = {"note_age": True, "clock": True, "attention_heads": 2, "attention_span": 4}
BIAXIAL = {"hidden": 4, "global_hidden": 3, "note_hidden": 4, "features": 5, **HISTORY}
RECURRENT = {"hidden": 4, "recurrent": 8, "cell": "lstm", **HISTORY}
CHAINS = 1500


def tiny(cls: type[RollModel], codec: RollCodec = CODEC) -> RollModel:
    """A model with large random weights, whose frames depend much on each other."""
    torch.manual_seed(5)
    settings = dict(BIAXIAL if cls is BiaxialLSTM else RECURRENT)
    if cls is RNNNADE:  # with the match, the other two would hardly depend on what comes later
        settings["longest_match"] = True
    model = cls(codec.spec, codec, **settings)
    for p in model.parameters():
        if p.requires_grad:
            torch.nn.init.normal_(p, std=0.8 if cls is BiaxialLSTM else 0.4)
    model.infill_effort = Effort(particles=6, near=1, far=256)
    return model.eval()


def roll(*frames: str) -> np.ndarray:
    return np.array([[int(c) for c in frame] for frame in frames], np.uint8)


PIECE = roll("100", "110", "010", "011", "101", "100", "001", "011")
"""Eight frames."""


def log_prob_of(model: RollModel, x_NTD: np.ndarray) -> torch.Tensor:
    """log p of whole rolls by the model's likelihood in evaluation."""
    x_BTD = torch.from_numpy(x_NTD).float()
    batch = RollBatch(x_BTD, torch.ones(x_BTD.shape[:2], dtype=torch.bool))
    return model.log_prob(batch).double().sum(1).detach()


def cells_of(first: int, stop: int, columns: tuple[int, ...]) -> list[tuple[int, int]]:
    return list(itertools.product(range(first, stop), columns))


def exact(model: RollModel, cells: list[tuple[int, int]], upto: int) -> np.ndarray:
    """p of every content of the cells given the rest of the piece, by a sum over all contents;
    only the first `upto` frames are the piece."""
    contents = np.array(list(itertools.product((0, 1), repeat=len(cells))), np.uint8)
    x_NTD = np.repeat(PIECE[None, :upto], len(contents), 0)
    for k, (t, d) in enumerate(cells):
        x_NTD[:, t, d] = contents[:, k]
    return log_prob_of(model, x_NTD).softmax(0).numpy()


def counts(pieces: list[np.ndarray], cells: list[tuple[int, int]]) -> np.ndarray:
    """How often each content of the cells was sampled."""
    number = 2 ** np.arange(len(cells))[::-1]
    found = np.zeros(2 ** len(cells), int)
    for piece in pieces:
        x_TD = CODEC.encode(piece)
        x_TD = np.pad(x_TD, ((0, len(PIECE) - len(x_TD)), (0, 0)))
        found[sum(n * x_TD[t, d] for n, (t, d) in zip(number, cells, strict=True))] += 1
    return found


def fits(found: np.ndarray, p: np.ndarray) -> float:
    """The p-value of a chi-square test, contents that are expected fewer than 8 times pooled."""
    expected = p * found.sum()
    rare = expected < 8
    observed = np.r_[found[~rare], found[rare].sum()]
    expected = np.r_[expected[~rare], expected[rare].sum()]
    keep = expected > 0
    return float(chisquare(observed[keep], expected[keep] * observed.sum() / expected.sum()).pvalue)


REGIONS = pytest.mark.parametrize(
    ("first", "stop", "columns"),
    [(2, 4, (0, 1, 2)), (5, 7, (2,)), (1, 4, (0, 1)), (0, 2, (0, 1, 2)), (6, 8, (0, 1, 2))],
    ids=["frames", "one pitch", "two pitches", "beginning", "end"],
)
EXACT = pytest.mark.parametrize("cls", [BiaxialLSTM, RNNNADE])


def infilled(model, first: int, stop: int, columns: tuple[int, ...], **settings) -> list:
    pitches = LOW + min(columns), LOW + max(columns)
    start, end = first * CODEC.dt, stop * CODEC.dt
    return model.infill(CODEC.decode(PIECE), start, end, pitches, **settings)


def free_cells(first: int, stop: int, columns: tuple[int, ...]) -> list[tuple[int, int]]:
    """The cells of the region in which no note sounds that started before it."""
    held = {d for d in columns if first and PIECE[first - 1, d]}
    cells = []
    for t in range(first, stop):
        held = {d for d in held if PIECE[t, d]}
        cells += [(t, d) for d in columns if d not in held]
    return cells


@EXACT
@REGIONS
def test_the_region_has_the_exact_conditional_distribution(cls, first, stop, columns) -> None:
    model, cells = tiny(cls), free_cells(first, stop, columns)
    found = counts(infilled(model, first, stop, columns, n=CHAINS, sweeps=12), cells)
    p = exact(model, cells, len(PIECE))
    assert fits(found, p) > 1e-3
    # A method that ignores the frames after the region, or the given notes in it, is found out.
    assert fits(found, np.full(len(p), 1 / len(p))) < 1e-6
    if stop < len(PIECE) and len(columns) > 1:  # on one pitch the future says little
        assert fits(found, exact(model, cells, stop)) < 1e-6


def test_rbms_come_close_to_the_exact_conditional(monkeypatch) -> None:
    """Their weights are estimates, so this bound is wide; ignoring the future is worse."""
    monkeypatch.setattr(rbm_frames, "AIS_STEPS", 20)
    model, (first, stop, columns) = tiny(RNNRBM), (2, 4, (1, 2))
    cells = free_cells(first, stop, columns)
    p, past_only = exact_rbm(model, cells, len(PIECE)), exact_rbm(model, cells, stop)
    found = counts(infilled(model, first, stop, columns, n=120, sweeps=2), cells) / 120
    assert np.abs(found - p).sum() / 2 < 0.1 < np.abs(past_only - p).sum() / 2


def exact_rbm(model: RNNRBM, cells: list[tuple[int, int]], upto: int) -> np.ndarray:
    """`exact` with log Z by a sum over all frames."""
    every_ND = torch.tensor(list(itertools.product((0.0, 1.0), repeat=D)))

    def log_f(x_ND, b_v_ND, b_h_NH):
        return (x_ND * b_v_ND).sum(-1) + F.softplus(x_ND @ model.W_DH + b_h_NH).sum(-1)

    contents = np.array(list(itertools.product((0, 1), repeat=len(cells))), np.float32)
    x_NTD = torch.from_numpy(np.repeat(PIECE[None, :upto], len(contents), 0)).float()
    for k, (t, d) in enumerate(cells):
        x_NTD[:, t, d] = torch.from_numpy(contents[:, k])
    with torch.no_grad():
        known = model.conditions(x_NTD).map(lambda z: z.flatten(0, 1))
        b_v, b_h = model.biases(known)
        log_z = log_f(every_ND, b_v[:, None], b_h[:, None]).logsumexp(1)
        log_p = log_f(x_NTD.flatten(0, 1), b_v, b_h) - log_z
    return log_p.double().unflatten(0, x_NTD.shape[:2]).sum(1).softmax(0).numpy()


WIDE = RollCodec(pitch_range=(48, 84), dt=0.25)


def tune() -> np.ndarray:
    """Notes that are not on the grid, with velocities, and one that the model does not have."""
    rows = [(0.5 * k + 0.013, 0.5 * k + 0.63, 60 + 2 * k % 11, 50 + k) for k in range(16)]
    rows += [(1.0 * k, 1.0 * k + 1.2, 48 + k, 70) for k in range(8)]
    rows.append((3.0, 4.0, 100, 90))
    notes = np.array(rows, NOTES)
    return notes[np.lexsort((notes["pitch"], notes["start"]))]


def rows_of(notes: np.ndarray) -> set[bytes]:
    return {note.tobytes() for note in np.asarray(notes)}


@pytest.mark.parametrize("cls", [BiaxialLSTM, RNNNADE])
@pytest.mark.parametrize("common_key", [False, True])
def test_notes_that_start_outside_do_not_change(cls, common_key) -> None:
    model = tiny(cls, replace(WIDE, common_key=common_key))
    notes = tune()
    pieces = model.infill(notes, 2.0, 4.0, (55, 80), n=2, seed=3, sweeps=1)
    inside = (notes["start"] >= 2) & (notes["start"] < 4)
    inside &= (notes["pitch"] >= 55) & (notes["pitch"] <= 80)
    for piece in pieces:
        assert rows_of(notes[~inside]) <= rows_of(piece)
        new = [n for n in np.asarray(piece) if n.tobytes() not in rows_of(notes[~inside])]
        assert all(2 <= n["start"] <= 4 and 55 <= n["pitch"] <= 80 for n in new)
        assert not rows_of(notes[inside]) & rows_of(piece)
    again = model.infill(notes, 2.0, 4.0, (55, 80), n=2, seed=3, sweeps=1)
    assert all(np.array_equal(a, b) for a, b in zip(pieces, again, strict=True))
    assert not np.array_equal(*pieces)


def test_what_sounds_after_the_region_stays() -> None:
    """The end of a note that starts in the region belongs to a new note, or starts there."""
    model = tiny(BiaxialLSTM)
    notes = np.array([(0, 1, 60, 80), (1.5, 4, 61, 80), (3, 4, 62, 70)], NOTES)
    for piece in model.infill(notes, 1.0, 2.0, n=8, sweeps=0):
        (held,) = [n for n in np.asarray(piece) if n["pitch"] == 61 and n["end"] == 4]
        assert held["start"] in (1.0, 1.5, 2.0)
        assert rows_of(notes[[0, 2]]) <= rows_of(piece)


@pytest.mark.parametrize("keep", ["melody", "bass"])
def test_a_kept_voice_stays_and_new_notes_are_on_its_other_side(keep) -> None:
    model, notes = tiny(RNNNADE, WIDE), tune()
    notes = notes[notes["pitch"] < 90]
    (piece,) = model.infill(notes, 0.0, 8.0, keep=keep, sweeps=1)
    voice = notes[notes["velocity"] != 70] if keep == "melody" else notes[notes["velocity"] == 70]
    assert rows_of(voice) <= rows_of(piece)
    new = [n for n in np.asarray(piece) if n.tobytes() not in rows_of(voice)]
    assert new
    for note in new:
        if keep == "melody":
            assert note["pitch"] < voice["pitch"].max()
        else:
            assert note["pitch"] > voice["pitch"].min()


def test_layout_and_tempo() -> None:
    codec = replace(WIDE, frames_per_beat=2)  # half a second per beat
    model, notes = tiny(RNNNADE, codec), tune()
    (piece,) = model.infill(notes, 2.0, 4.0, sweeps=0, tempo=60)
    assert layout_of(piece).seconds_per_beat == 1
    new = [n for n in np.asarray(piece) if n.tobytes() not in rows_of(notes)]
    assert all((n["start"] * 2) % 1 < 1e-6 for n in new)  # frames are half as fast
    laid_out = with_layout(notes, MidiLayout(0.7, 480, (3, 4)))
    assert layout_of(model.infill(laid_out, 2.0, 4.0, sweeps=0)[0]).time_signature == (3, 4)
    assert len(model.surprise(notes, tempo=60)) * 0.5 == pytest.approx(8.0, abs=0.5)


@pytest.mark.parametrize(
    ("start", "end", "settings", "message"),
    [
        (2.0, 2.0, {}, r"region=\[2,2\].*end after that"),
        (-1.0, 2.0, {}, "start at 0 s or later"),
        (9.0, 12.0, {}, "outside the piece, which ends at 8.2 s"),
        (2.0, 2.01, {}, "should contain the middle of a frame"),
        (1.0, float("nan"), {}, "should be finite"),
        (2.0, 4.0, {"pitches": (90, 100)}, "no note can be written .* pitches 48 to 83"),
        (2.0, 4.0, {"pitches": (70, 60)}, "0 ≤ low ≤ high"),
        (2.0, 4.0, {"pitches": (60, 128)}, "pitches="),
        (2.0, 4.0, {"keep": "tenor"}, "keep=tenor"),
        (2.0, 4.0, {"temperature": 0}, "temperature=0"),
    ],
)
def test_bad_regions_are_refused_in_one_line(start, end, settings, message) -> None:
    with pytest.raises(UserError, match=message) as refused:
        tiny(RNNNADE, WIDE).infill(tune(), start, end, **settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "notes",
    [
        np.zeros(3),
        np.empty(0, NOTES),
        np.array([(-1, 1, 60, 80)], NOTES),
        np.array([(0, np.inf, 60, 80)], NOTES),
    ],
    ids=["numbers", "none", "negative", "infinite"],
)
def test_what_is_no_piece_is_refused(notes) -> None:
    model = tiny(RNNNADE)
    for call in (model.surprise, lambda notes: model.infill(notes, 0, 1)):
        with pytest.raises(UserError, match="notes: "):
            call(notes)


def test_a_watcher_sees_every_frame_and_can_stop() -> None:
    model, seen = tiny(BiaxialLSTM, WIDE).train(), []

    def watcher(step) -> None:
        seen.append(step.done)
        assert step.total == 3 * 8
        assert rows_of(step.samples()[0])
        if step.done == 12:
            raise GenerationStopped

    random = torch.get_rng_state()
    with watching(watcher), pytest.raises(GenerationStopped):
        model.infill(tune(), 2.0, 4.0, sweeps=2)
    assert seen == list(range(1, 13))
    assert model.training
    assert torch.equal(random, torch.get_rng_state())


@EXACT
def test_surprise_is_the_likelihood_of_evaluation(cls) -> None:
    model = tiny(cls)
    surprise = model.surprise(CODEC.decode(PIECE))
    np.testing.assert_allclose(
        surprise["nll"].sum(), -float(log_prob_of(model, PIECE[None])[0]), rtol=1e-5
    )
    assert surprise["pitch"].tolist() == [-1] * 8
    np.testing.assert_allclose(surprise["start"], 0.5 * np.arange(8))
    np.testing.assert_allclose(surprise["end"], 0.5 * np.arange(1, 9))


def test_a_sampler_without_log_prob_is_refused() -> None:
    class Plain(FrameSampler):
        def draw(self, given=None): ...

        def append(self, frame_ND) -> None: ...

        def select(self, row_N) -> None: ...

    with pytest.raises(UserError, match="cannot rewrite a region"):
        Plain().log_prob(torch.zeros(1, 1, D))
