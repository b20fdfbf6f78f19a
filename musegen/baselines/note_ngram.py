"""What every model of piano-rolls must beat: each note by itself, from its own past."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from musegen.metrics.accuracy import frame_accuracy

MAX_ORDER = 16
SAMPLES = 20
"""Per frame, for the expected accuracy; the benchmark's thousands of frames do the rest."""


def baselines(rolls: dict[str, list[np.ndarray]]) -> tuple[dict[str, tuple[float, float]], int]:
    """(log-likelihood in nats, expected accuracy) per frame of the test split, by model, and n.

    `random` has every note on with probability ½. Of the note n-grams there are n = 1 and the n
    that is best on the validation split.
    """
    models = note_ngrams(rolls["train"])
    frames, past = {}, {}
    for split in ("val", "test"):
        frames[split] = np.concatenate(rolls[split])
        past[split] = np.concatenate([histories(r, MAX_ORDER) for r in rolls[split]])
    best = max(
        range(MAX_ORDER),
        key=lambda i: log_likelihood(predicted(models[i], past["val"]), frames["val"]),
    )
    probabilities = {"random": np.full(frames["test"].shape, 0.5)}
    for name, i in (("note_1gram", 0), ("note_ngram", best)):
        probabilities[name] = predicted(models[i], past["test"])
    return {
        name: (log_likelihood(p_NP, frames["test"]), sampled_accuracy(p_NP, frames["test"]))
        for name, p_NP in probabilities.items()
    }, best + 1


def note_ngrams(train: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The probability of each note given itself in the n − 1 frames before, with silence before
    the piece: (P, 2^(n − 1)) for n = 1 to `MAX_ORDER`.

        p(v_t = 1 | history) = (N(history, 1) + 1) / (N(history) + 2)

    Without the one added, a note that the training rolls do not have makes the 1-gram's metric
    −∞: there is one in the test split of Nottingham and one in that of JSB.
    """
    counts_2PC = count_notes(train, MAX_ORDER)
    models = []
    for _ in range(MAX_ORDER):
        models.append((counts_2PC[1] + 1) / (counts_2PC.sum(0) + 2))
        # Histories without their oldest frame, the highest bit; a single column stays itself.
        pairs = counts_2PC.reshape(*counts_2PC.shape[:2], -1, max(1, counts_2PC.shape[2] // 2))
        counts_2PC = pairs.sum(2)
    return models[::-1]


def count_notes(rolls: Sequence[np.ndarray], order: int) -> np.ndarray:
    """(2, P, 2^(order − 1)): how often each note was off, and on, after each history."""
    pitches, n_histories = rolls[0].shape[1], 1 << (order - 1)
    counts = np.zeros((2, pitches, n_histories), np.int64)
    for roll_TP in rolls:
        np.add.at(counts, (roll_TP, np.arange(pitches), histories(roll_TP, order)), 1)
    return counts


def histories(roll_TP: np.ndarray, order: int) -> np.ndarray:
    """(T, P): each note's order − 1 frames before as a number, the latest in the lowest bit."""
    history_TP = np.zeros(roll_TP.shape, np.int64)
    for back in range(1, min(order, len(roll_TP))):
        history_TP[back:] |= roll_TP[:-back].astype(np.int64) << (back - 1)
    return history_TP


def predicted(p_PC: np.ndarray, history_NP: np.ndarray) -> np.ndarray:
    """(N, P): each note's probability after histories at least as long as its own."""
    pitches, n_histories = p_PC.shape
    return p_PC[np.arange(pitches), history_NP & (n_histories - 1)]


def log_likelihood(p_NP: np.ndarray, frames_NP: np.ndarray) -> float:
    """Nats per frame of independent notes, Σ v log p + (1−v) log(1−p) over the notes."""
    return float(np.log(np.where(frames_NP > 0, p_NP, 1 - p_NP)).sum(1).mean())


def sampled_accuracy(p_NP: np.ndarray, frames_NP: np.ndarray, seed: int = 0) -> float:
    """Expected frame-level accuracy of independent notes, `SAMPLES` draws a frame."""
    generator = torch.Generator().manual_seed(seed)
    total = 0.0
    batches = (torch.from_numpy(a).split(4096) for a in (p_NP, frames_NP))
    for p, x in zip(*batches, strict=True):
        sampled_SNP = torch.rand(SAMPLES, *p.shape, generator=generator) < p
        total += float(frame_accuracy(x, sampled_SNP).sum())
    return total / len(frames_NP)
