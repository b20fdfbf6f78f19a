"""How well a model with exact probabilities predicts whole pieces, frame by frame.

For any model that can do two things with a `RollBatch` of whole pieces:

- `log_prob(batch)` → (B, T): log p of every frame given the true ones before it, in nats;
- `sample_frames(batch, samples, generator)` → (S, N, D) of 0 and 1: each of the N real frames, in
  the order of `x_BTD[mask_BT]`, drawn anew S times given the true frames before it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

from musegen.metrics.accuracy import frame_accuracy
from musegen.specs import RollBatch

SAMPLES = 50
"""Of each frame's conditional, for its accuracy; the protocol takes 20 to 50."""
CONTEXT, TOP_LINE = 8, 16
"""Frames of an exact context, and of a window of the highest notes."""


class ExactRolls(Protocol):
    """A model with exact probabilities of frames."""

    def log_prob(self, batch: RollBatch) -> Tensor:
        """(B, T): log p of each frame given those before it; padding is not looked at."""

    def sample_frames(self, batch: RollBatch, samples: int, generator: Generator) -> Tensor:
        """(S, N, D): each real frame S times, given the true frames before it."""


class PieceFrames(NamedTuple):
    """One piece and how it was predicted; accuracy_T is None where nothing was sampled."""

    x_TD: np.ndarray
    log_prob_T: np.ndarray
    accuracy_T: np.ndarray | None


@torch.inference_mode()
def predicted_pieces(
    model: ExactRolls,
    batches: Iterable[RollBatch],
    samples: int = SAMPLES,
    generator: Generator | None = None,
) -> list[PieceFrames]:
    """Every piece of some batches, in their order; samples=0 leaves accuracy out."""
    generator = generator or torch.Generator().manual_seed(0)
    pieces = []
    for batch in batches:
        x_ND, log_prob_BT = batch.x_BTD[batch.mask_BT], model.log_prob(batch)
        log_prob_N = log_prob_BT[batch.mask_BT.to(log_prob_BT.device)]
        columns: list[Any] = [x_ND.cpu().numpy() > 0, log_prob_N.double().cpu().numpy()]
        if samples:
            drawn_SND = model.sample_frames(batch, samples, generator)
            accuracy_N = frame_accuracy(x_ND.to(drawn_SND.device), drawn_SND)
            columns.append(accuracy_N.double().cpu().numpy())
        ends = batch.mask_BT.sum(1).cumsum(0)[:-1].tolist()
        parts = [np.split(column, ends) for column in columns] + [[None] * len(batch.mask_BT)]
        pieces += [PieceFrames(*row[:3]) for row in zip(*parts, strict=True)]
    return pieces


def pooled(pieces: Sequence[PieceFrames]) -> dict[str, float]:
    """The protocol's LL (nats per frame), ACC (percent) and the number of frames, all pooled.

    `log_likelihood_error` is the standard error over pieces, which are what was drawn: frames of a
    piece are no independent draws.
    """
    log_prob_N = np.concatenate([p.log_prob_T for p in pieces])
    values = {"log_likelihood": float(log_prob_N.mean()), "frames": len(log_prob_N)}
    if len(pieces) > 1:
        excess = [float((p.log_prob_T - log_prob_N.mean()).sum()) for p in pieces]
        spread = np.sqrt(np.square(excess).sum() * len(pieces) / (len(pieces) - 1))
        values["log_likelihood_error"] = float(spread) / len(log_prob_N)
    accuracies = [p.accuracy_T for p in pieces if p.accuracy_T is not None]
    if accuracies:
        values["accuracy"] = 100 * float(np.concatenate(accuracies).mean())
    return values


def piece_table(pieces: Sequence[PieceFrames]) -> list[dict[str, float]]:
    """LL, ACC and frames of each piece."""
    return [{"piece": i, **pooled([piece])} for i, piece in enumerate(pieces)]


def write_piece_table(pieces: Sequence[PieceFrames], path: Path) -> None:
    """The same as a CSV file."""
    with open(path, "w", newline="") as file:
        table = piece_table(pieces)
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)


# --- What stood before in the piece -------------------------------------------------------------


def repeated_contexts(x_TD: np.ndarray, context: int = CONTEXT) -> np.ndarray:
    """(T,) bool: where the `context` frames before t stood, exactly so, earlier in the piece."""
    rows = np.packbits(x_TD > 0, axis=1)
    seen: set[bytes] = set()
    repeated_T = np.zeros(len(rows), bool)
    for t in range(context, len(rows)):
        before = rows[t - context : t].tobytes()
        repeated_T[t] = before in seen
        seen.add(before)
    return repeated_T


def by_context(pieces: Sequence[PieceFrames], context: int = CONTEXT) -> dict[str, float]:
    """LL of frames after an exact context that the piece had before, and of all others."""
    log_prob_N = np.concatenate([p.log_prob_T for p in pieces])
    repeated_N = np.concatenate([repeated_contexts(p.x_TD, context) for p in pieces])
    values = {"repeated_context": 100 * float(repeated_N.mean())}
    for name, chosen_N in (("repeated_context", repeated_N), ("new_context", ~repeated_N)):
        if chosen_N.any():
            values[f"log_likelihood_{name}"] = float(log_prob_N[chosen_N].mean())
    return values


def longest_hold(x_TD: np.ndarray, low_pitches: int) -> int:
    """The longest stretch of frames in which the same notes sound in the low columns, some at
    least: how long a chord stands. 0 if none ever sounds."""
    longest, since = 0, 0
    low_TD = x_TD[:, :low_pitches] > 0
    for t, notes_D in enumerate(low_TD):
        if t == 0 or not np.array_equal(notes_D, low_TD[t - 1]):
            since = t
        if notes_D.any():
            longest = max(longest, t + 1 - since)
    return longest


# --- What training pieces have too --------------------------------------------------------------


def top_line(x_TD: np.ndarray) -> np.ndarray:
    """(T,) int16: the column of each frame's highest note, −1 in silence."""
    on_TD = x_TD > 0
    highest_T = on_TD.shape[1] - 1 - on_TD[:, ::-1].argmax(1)
    return np.where(on_TD.any(1), highest_T, -1).astype(np.int16)


def shared_top_lines(
    pieces: Sequence[np.ndarray], training: Sequence[np.ndarray], window: int = TOP_LINE
) -> list[float]:
    """Of each piece's windows of the top line, the fraction that some training piece has as well.

    A piece shorter than a window shares nothing.
    """

    def windows(x_TD: np.ndarray) -> list[bytes]:
        line_T = top_line(x_TD)
        return [line_T[t : t + window].tobytes() for t in range(len(line_T) - window + 1)]

    known = {w for x_TD in training for w in windows(x_TD)}
    found = ([w in known for w in windows(x_TD)] for x_TD in pieces)
    return [float(np.mean(each)) if each else 0.0 for each in found]


def by_shared_top_line(
    pieces: Sequence[PieceFrames], training: Sequence[np.ndarray], window: int = TOP_LINE
) -> dict[str, float]:
    """LL of the pieces that share no window of their top line with training, and of those that
    share at most half of theirs."""
    shared = shared_top_lines([p.x_TD for p in pieces], training, window)
    values = {}
    for name, most in (("unshared", 0.0), ("mostly_unshared", 0.5)):
        some = [p for p, s in zip(pieces, shared, strict=True) if s <= most]
        values[f"pieces_{name}"] = float(len(some))
        if some:
            values[f"log_likelihood_{name}"] = pooled(some)["log_likelihood"]
    return values


def report(
    pieces: Sequence[PieceFrames], training: Sequence[np.ndarray] | None = None
) -> dict[str, float]:
    """All of these as one table of named values; without training pieces, what needs none."""
    values = {**pooled(pieces), **by_context(pieces)}
    if training:
        values |= by_shared_top_line(pieces, training)
    return values
