"""Infilling by models of piano-rolls: against the exact conditional, and what stays as it was."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from musegen.codecs.roll_codec import RollCodec
from musegen.models import RNNNADE, BiaxialLSTM
from musegen.models.layers.particle_gibbs import Effort
from musegen.models.roll_model import RollModel
from musegen.specs import RollBatch

D, LOW = 3, 60
CODEC = RollCodec(pitch_range=(LOW, LOW + D), dt=0.5)
HISTORY = {"note_age": True, "clock": True, "attention_heads": 2, "attention_span": 4}
BIAXIAL = {"hidden": 4, "global_hidden": 3, "note_hidden": 4, "features": 5, **HISTORY}
CHAINS = 2000


def tiny(cls: type[RollModel], codec: RollCodec = CODEC) -> RollModel:
    """A model with large random weights, whose frames depend much on each other."""
    torch.manual_seed(5)
    settings = BIAXIAL if cls is BiaxialLSTM else {"hidden": 4, "cell": "lstm", **HISTORY}
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
    if stop < len(PIECE):
        assert fits(found, exact(model, cells, stop)) < 1e-6
