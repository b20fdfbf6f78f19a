"""The baseline of piano-rolls: an independent n-gram for each note, given its own past."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from musegen.metrics.accuracy import frame_accuracy
from musegen.runtime.random_streams import Stream, torch_stream

MAX_ORDER = 16
SAMPLES = 20
"""Samples per frame for the expected accuracy. The mean over thousands of frames is precise."""


def baselines(rolls: dict[str, list[np.ndarray]]) -> tuple[dict[str, tuple[float, float]], int]:
    """(log-likelihood in nats, expected accuracy) per frame of the test split, by model, and n.

    In `random` every note has probability ½. The note n-grams are n = 1 and the best n on the
    validation split.
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
    """The probability of each note given its n − 1 preceding frames, with silence before the
    piece: (P, 2^(n − 1)) for n = 1 to `MAX_ORDER`.

        p(v_t = 1 | history) = (N(history, 1) + 1) / (N(history) + 2)

    Without the added 1, a note that does not occur in training makes the 1-gram's log-likelihood
    −∞. The test splits of Nottingham and of JSB have one such note each.
    """
    counts_2PC = count_notes(train, MAX_ORDER)
    models = []
    for _ in range(MAX_ORDER):
        models.append((counts_2PC[1] + 1) / (counts_2PC.sum(0) + 2))
        # Sum over the oldest frame of the history, which is the highest bit.
        pairs = counts_2PC.reshape(*counts_2PC.shape[:2], -1, max(1, counts_2PC.shape[2] // 2))
        counts_2PC = pairs.sum(2)
    return models[::-1]


def count_notes(rolls: Sequence[np.ndarray], order: int) -> np.ndarray:
    """(2, P, 2^(order − 1)): how often each note is off (0) and on (1) after each history."""
    pitches, n_histories = rolls[0].shape[1], 1 << (order - 1)
    counts = np.zeros((2, pitches, n_histories), np.int64)
    for roll_TP in rolls:
        np.add.at(counts, (roll_TP, np.arange(pitches), histories(roll_TP, order)), 1)
    return counts


def histories(roll_TP: np.ndarray, order: int) -> np.ndarray:
    """(T, P): each note's order − 1 preceding frames as a number, the latest in the lowest bit."""
    history_TP = np.zeros(roll_TP.shape, np.int64)
    for back in range(1, min(order, len(roll_TP))):
        history_TP[back:] |= roll_TP[:-back].astype(np.int64) << (back - 1)
    return history_TP


def predicted(p_PC: np.ndarray, history_NP: np.ndarray) -> np.ndarray:
    """(N, P): the probability of each note. The histories may be longer than the model's."""
    pitches, n_histories = p_PC.shape
    return p_PC[np.arange(pitches), history_NP & (n_histories - 1)]


def log_likelihood(p_NP: np.ndarray, frames_NP: np.ndarray) -> float:
    """Nats per frame of independent notes, Σ v log p + (1−v) log(1−p) over the notes."""
    return float(np.log(np.where(frames_NP > 0, p_NP, 1 - p_NP)).sum(1).mean())


def sampled_accuracy(p_NP: np.ndarray, frames_NP: np.ndarray, seed: int = 0) -> float:
    """Expected frame-level accuracy of independent notes, with `SAMPLES` samples per frame."""
    generator = torch_stream(Stream.BASELINES, seed)
    total = 0.0
    batches = (torch.from_numpy(a).split(4096) for a in (p_NP, frames_NP))
    for p, x in zip(*batches, strict=True):
        sampled_SNP = torch.rand(SAMPLES, *p.shape, generator=generator) < p
        total += float(frame_accuracy(x, sampled_SNP).sum())
    return total / len(frames_NP)
