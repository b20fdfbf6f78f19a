"""Log-likelihood and accuracy of models with exact probabilities, on whole pieces of frames.

A model needs the two methods of `ExactRollModel`. The log-likelihood is also reported for frames
after repeated and after new contexts, and for pieces that share no top line with training pieces.
They show how much of it comes from copying the piece itself or the training set.
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
from musegen.runtime.random_streams import Stream, torch_stream
from musegen.specs import RollBatch

SAMPLES = 50
"""Samples of each frame's conditional, for the accuracy; the benchmark uses 20 to 50."""
CONTEXT, TOP_LINE = 8, 16
"""Number of frames in a context, and in a window of the top line."""


class ExactRollModel(Protocol):
    """A model with exact probabilities of frames. The batches consist of whole pieces."""

    def log_prob(self, batch: RollBatch) -> Tensor:
        """log p of each frame given the true frames before it, (B, T), in nats.

        The values in padding are not used.
        """

    def sample_frames(self, batch: RollBatch, samples: int, generator: Generator) -> Tensor:
        """S samples of each frame given the true frames before it, (S, N, D), of 0 and 1.

        The N frames are those that are not padding, in the order of `x_BTD[mask_BT]`.
        """


class PieceFrames(NamedTuple):
    """The frames of a piece, their log p and their accuracy, which is None without samples."""

    x_TD: np.ndarray
    log_prob_T: np.ndarray
    accuracy_T: np.ndarray | None


@torch.inference_mode()
def predicted_pieces(
    model: ExactRollModel,
    batches: Iterable[RollBatch],
    samples: int = SAMPLES,
    generator: Generator | None = None,
) -> list[PieceFrames]:
    """The pieces of the batches, in their order, with log p and, if samples > 0, the accuracy."""
    generator = generator or torch_stream(Stream.ASSESSMENT, 0)
    pieces = []
    for batch in batches:
        x_ND, log_prob_BT = batch.x_BTD[batch.mask_BT], model.log_prob(batch)
        log_prob_N = log_prob_BT[batch.mask_BT.to(log_prob_BT.device)]
        columns: list[Any] = [x_ND.cpu().numpy() > 0, log_prob_N.double().cpu().numpy()]
        if samples:
            sampled_SND = model.sample_frames(batch, samples, generator)
            accuracy_N = frame_accuracy(x_ND.to(sampled_SND.device), sampled_SND)
            columns.append(accuracy_N.double().cpu().numpy())
        ends = batch.mask_BT.sum(1).cumsum(0)[:-1].tolist()
        parts = [np.split(column, ends) for column in columns] + [[None] * len(batch.mask_BT)]
        pieces += [PieceFrames(*row[:3]) for row in zip(*parts, strict=True)]
    return pieces


def pooled(pieces: Sequence[PieceFrames]) -> dict[str, float]:
    """Log-likelihood (nats per frame), accuracy (fraction) and number of frames, all frames pooled.

    `log_likelihood_error` is the standard error over pieces, since the frames of a piece are not
    independent of each other.
    """
    log_prob_N = np.concatenate([p.log_prob_T for p in pieces])
    values = {"log_likelihood": float(log_prob_N.mean()), "frames": len(log_prob_N)}
    if len(pieces) > 1:
        deviations = [float((p.log_prob_T - log_prob_N.mean()).sum()) for p in pieces]
        total_error = np.sqrt(np.square(deviations).sum() * len(pieces) / (len(pieces) - 1))
        values["log_likelihood_error"] = float(total_error) / len(log_prob_N)
    accuracies = [p.accuracy_T for p in pieces if p.accuracy_T is not None]
    if accuracies:
        values["accuracy"] = float(np.concatenate(accuracies).mean())
    return values


def piece_table(pieces: Sequence[PieceFrames]) -> list[dict[str, float]]:
    """Log-likelihood, accuracy and number of frames of each piece."""
    return [{"piece": i, **pooled([piece])} for i, piece in enumerate(pieces)]


def write_piece_table(pieces: Sequence[PieceFrames], path: Path) -> None:
    """Write `piece_table` as a CSV file."""
    with open(path, "w", newline="") as file:
        table = piece_table(pieces)
        writer = csv.DictWriter(file, table[0])
        writer.writeheader()
        writer.writerows(table)


# --- Repetition within a piece ------------------------------------------------------------------


def repeated_contexts(x_TD: np.ndarray, context: int = CONTEXT) -> np.ndarray:
    """Whether the last `context` frames before t also occur earlier in the piece, (T,) bool."""
    rows = np.packbits(x_TD > 0, axis=1)
    seen: set[bytes] = set()
    repeated_T = np.zeros(len(rows), bool)
    for t in range(context, len(rows)):
        before = rows[t - context : t].tobytes()
        repeated_T[t] = before in seen
        seen.add(before)
    return repeated_T


def by_context(pieces: Sequence[PieceFrames], context: int = CONTEXT) -> dict[str, float]:
    """Log-likelihood of frames after repeated contexts, and after new ones.

    `repeated_context` is the fraction of frames after a repeated context.
    """
    log_prob_N = np.concatenate([p.log_prob_T for p in pieces])
    repeated_N = np.concatenate([repeated_contexts(p.x_TD, context) for p in pieces])
    values = {"repeated_context": float(repeated_N.mean())}
    for name, selected_N in (("repeated_context", repeated_N), ("new_context", ~repeated_N)):
        if selected_N.any():
            values[f"log_likelihood_{name}"] = float(log_prob_N[selected_N].mean())
    return values


# --- Similarity to training pieces --------------------------------------------------------------


def top_line(x_TD: np.ndarray) -> np.ndarray:
    """The column of each frame's highest note, −1 in silence: (T,) int16."""
    on_TD = x_TD > 0
    highest_T = on_TD.shape[1] - 1 - on_TD[:, ::-1].argmax(1)
    return np.where(on_TD.any(1), highest_T, -1).astype(np.int16)


def shared_top_lines(
    pieces: Sequence[np.ndarray], training: Sequence[np.ndarray], window: int = TOP_LINE
) -> list[float]:
    """For each piece, the fraction of the windows of its top line that training pieces contain.

    0 for a piece shorter than a window.
    """

    def windows(x_TD: np.ndarray) -> list[bytes]:
        line_T = top_line(x_TD)
        return [line_T[t : t + window].tobytes() for t in range(len(line_T) - window + 1)]

    known = {w for x_TD in training for w in windows(x_TD)}
    shared = ([w in known for w in windows(x_TD)] for x_TD in pieces)
    return [float(np.mean(flags)) if flags else 0.0 for flags in shared]


def by_shared_top_line(
    pieces: Sequence[PieceFrames], training: Sequence[np.ndarray], window: int = TOP_LINE
) -> dict[str, float]:
    """Log-likelihood of the pieces that share no window of their top line with training pieces
    (`unshared`), and of those that share at most half (`mostly_unshared`); and their numbers."""
    fractions = shared_top_lines([p.x_TD for p in pieces], training, window)
    values = {}
    for name, limit in (("unshared", 0.0), ("mostly_unshared", 0.5)):
        selected = [p for p, f in zip(pieces, fractions, strict=True) if f <= limit]
        values[f"pieces_{name}"] = float(len(selected))
        if selected:
            values[f"log_likelihood_{name}"] = pooled(selected)["log_likelihood"]
    return values


def report(
    pieces: Sequence[PieceFrames], training: Sequence[np.ndarray] | None = None
) -> dict[str, float]:
    """All metrics by name; without training pieces, those that do not need them."""
    values = {**pooled(pieces), **by_context(pieces)}
    if training:
        values |= by_shared_top_line(pieces, training)
    return values
