"""What every model of piano-rolls must beat: each note by itself, from its own past."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from musegen.metrics.rolls import frame_accuracy

MAX_ORDER = 16
SAMPLES = 20
"""Per frame, for the expected accuracy; the benchmark's thousands of frames do the rest."""


def baselines(rolls: dict[str, list[np.ndarray]]) -> dict[str, tuple[float, float]]:
    """(log-likelihood in nats, expected accuracy) per frame of the test split, by model.

    - Random: every note is on with probability ½.
    - Note n-gram: each note given itself in the n − 1 frames before, with silence before the
      piece, and one added to both counts of the training rolls,

          p(v_t = 1 | history) = (N(history, 1) + 1) / (N(history) + 2);

      n = 1, and the n up to `MAX_ORDER` that is best on the validation split.

    Without the one added, a single note of the test split that training has not makes the
    1-gram's figure −∞, as one does in Nottingham and one in JSB.
    """
    counts = {split: count_notes(rolls[split], MAX_ORDER) for split in ("train", "val", "test")}
    test = rolls["test"]
    frames_NP = np.concatenate(test)
    figures = {}
    by_order: list[tuple[float, float, np.ndarray]] = []  # validation, test, probabilities
    while True:
        p_PC = (counts["train"][1] + 1) / (counts["train"].sum(0) + 2)
        nats = {s: (counts[s] * np.log([1 - p_PC, p_PC])).sum() for s in ("val", "test")}
        by_order.insert(0, (nats["val"], nats["test"] / len(frames_NP), p_PC))
        if p_PC.shape[1] == 1:
            break
        counts = {split: shorter(counts[split]) for split in counts}
    best = max(range(MAX_ORDER), key=lambda i: by_order[i][0])
    p_NP = np.full(frames_NP.shape, 0.5)
    figures["Random"] = (frames_NP.shape[1] * np.log(0.5), sampled_accuracy(p_NP, frames_NP))
    for i in (0, best):
        _, nats_per_frame, p_PC = by_order[i]
        p_NP = np.concatenate([np.take_along_axis(p_PC.T, histories(r, i + 1), 0) for r in test])
        figures[f"Note {i + 1}-gram"] = (nats_per_frame, sampled_accuracy(p_NP, frames_NP))
    return figures


def histories(roll_TP: np.ndarray, order: int) -> np.ndarray:
    """(T, P): each note's order − 1 frames before as a number, the latest in the lowest bit."""
    history_TP = np.zeros(roll_TP.shape, np.int64)
    for back in range(1, min(order, len(roll_TP))):
        history_TP[back:] |= roll_TP[:-back].astype(np.int64) << (back - 1)
    return history_TP


def count_notes(rolls: Sequence[np.ndarray], order: int) -> np.ndarray:
    """(2, P, 2^(order − 1)): how often each note was off, and on, after each history."""
    pitches, n_histories = rolls[0].shape[1], 1 << (order - 1)
    counts = np.zeros(2 * pitches * n_histories, np.int64)
    for roll_TP in rolls:
        row_TP = roll_TP.astype(np.int64) * pitches + np.arange(pitches)
        cells_N = (row_TP * n_histories + histories(roll_TP, order)).ravel()
        np.add.at(counts, cells_N, 1)
    return counts.reshape(2, pitches, n_histories)


def shorter(counts_2PC: np.ndarray) -> np.ndarray:
    """The counts of histories without their oldest frame."""
    return counts_2PC.reshape(*counts_2PC.shape[:2], 2, -1).sum(2)


def sampled_accuracy(p_NP: np.ndarray, frames_NP: np.ndarray, seed: int = 0) -> float:
    """Expected frame-level accuracy of independent notes, `SAMPLES` draws a frame."""
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    batches = (torch.from_numpy(a).split(4096) for a in (p_NP, frames_NP))
    for p, x in zip(*batches, strict=True):
        sampled_SNP = torch.rand(SAMPLES, *p.shape, generator=generator) < p
        total += float(frame_accuracy(x, sampled_SNP).sum())
    return total / len(frames_NP)
