"""Train the critic of a trained model of piano-rolls (`musegen.models.layers.roll_critic`).

The critic tells training pieces from pieces that the model has generated. Both kinds have the same
weight. The epoch with the least cross-entropy on held-out pieces, and on generated pieces that are
not trained on, is the result.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc

from musegen.models.layers.critic_weights import BLOCK
from musegen.models.layers.roll_critic import RollCritic
from musegen.runtime.progress import track
from musegen.runtime.random_streams import Stream, random_stream, seed_default_generators

BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 32, 2e-3, 0.05
LABEL_SMOOTHING = 0.025
"""Keeps z, whose exponential is a weight, from growing where a figure never was generated."""


class Pieces(NamedTuple):
    """Pieces in one tensor, and their numbers of frames."""

    x_NTD: Tensor
    frames_N: Tensor

    @property
    def mask_NT(self) -> Tensor:
        return torch.arange(self.x_NTD.shape[1]) < self.frames_N[:, None]


class CriticScore(NamedTuple):
    """How well a critic tells held-out pieces from generated ones: cross-entropy in nats per frame,
    and the AUC of z at the end of each piece."""

    cross_entropy: float
    auc: float


def train_critic(
    sizes: tuple[int, int],
    training: Sequence[np.ndarray],
    held_out: Sequence[np.ndarray],
    generated: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    length: int,
    epochs: int,
    seed: int,
) -> tuple[RollCritic, CriticScore]:
    """The best critic and its score. Pieces are piano-rolls (T, D) of 0 and 1.

    - sizes: the number of columns, and how many of them are below middle C.
    - generated: pieces to train on, and others to choose the epoch by.
    - length: pieces are cut to so many frames.
    """
    fake, other = generated
    valid = [(real := cut(held_out, length), 1.0), (like(real, other), 0.0)]
    with torch.random.fork_rng(devices=[]):
        seed_default_generators(Stream.CRITIC, seed)
        critic = RollCritic(*sizes).requires_grad_(True)
        optimizer = torch.optim.AdamW(critic.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        best, state = CriticScore(math.inf, math.nan), critic.state_dict()
        for epoch in track(range(epochs), "training the critic", "epochs"):
            rng = random_stream(Stream.CRITIC, seed, 1 + epoch)
            real = cut([crop(x_TD, length, rng) for x_TD in training], length)
            train_epoch(critic.train(), optimizer, [(real, 1.0), (like(real, fake), 0.0)], rng)
            schedule.step()
            score = score_critic(critic.eval(), *valid)
            if score.cross_entropy < best.cross_entropy:
                best, state = score, copy.deepcopy(critic.state_dict())
    critic.load_state_dict(state)
    return critic.requires_grad_(False), best


def crop(x_TD: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """The beginning of a piece, or as often `length` frames from the end of some block on."""
    blocks = (len(x_TD) - length) // BLOCK
    return (
        x_TD[BLOCK * int(rng.integers(blocks + 1)) :] if blocks > 0 and rng.random() < 0.5 else x_TD
    )


def cut(pieces: Sequence[np.ndarray], length: int) -> Pieces:
    """The first `length` frames of each piece, with silence after shorter ones."""
    cut_pieces = [np.asarray(x_TD[:length], np.float32) for x_TD in pieces]
    frames = [len(x_TD) for x_TD in cut_pieces]
    padded = [np.pad(x_TD, ((0, length - len(x_TD)), (0, 0))) for x_TD in cut_pieces]
    return Pieces(torch.from_numpy(np.stack(padded)), torch.tensor(frames))


def like(real: Pieces, generated: Sequence[np.ndarray]) -> Pieces:
    """Generated pieces that end where the real ones do, which the critic should not know by."""
    pieces = cut(generated, real.x_NTD.shape[1])
    turns = -(-len(generated) // len(real.frames_N))
    return Pieces(pieces.x_NTD, real.frames_N.repeat(turns)[: len(generated)])


def train_epoch(
    critic: RollCritic,
    optimizer: torch.optim.Optimizer,
    kinds: Sequence[tuple[Pieces, float]],
    rng: np.random.Generator,
) -> None:
    """Updates with all pieces of both kinds; `kinds` are pieces and whether they are real."""
    x_NTD = torch.cat([pieces.x_NTD for pieces, _ in kinds])
    mask_NT = torch.cat([pieces.mask_NT for pieces, _ in kinds])
    sizes = [len(pieces.x_NTD) for pieces, _ in kinds]
    label_N = torch.cat([torch.full((n,), real) for n, (_, real) in zip(sizes, kinds, strict=True)])
    weight_N = torch.cat([torch.full((n,), sum(sizes) / (2 * n)) for n in sizes])
    target_N = LABEL_SMOOTHING + (1 - 2 * LABEL_SMOOTHING) * label_N
    for i_B in torch.from_numpy(rng.permutation(len(x_NTD))).split(BATCH_SIZE):
        z_BT, _ = critic(x_NTD[i_B])
        target_BT = target_N[i_B, None].expand_as(z_BT)
        loss_BT = F.binary_cross_entropy_with_logits(z_BT, target_BT, reduction="none")
        loss_B = (loss_BT * mask_NT[i_B]).sum(1) / mask_NT[i_B].sum(1)
        optimizer.zero_grad()
        (loss_B * weight_N[i_B]).mean().backward()
        optimizer.step()


@torch.no_grad()
def score_critic(
    critic: RollCritic, real: tuple[Pieces, float], generated: tuple[Pieces, float]
) -> CriticScore:
    """The score on pieces that are real and on generated ones."""
    losses, ends, labels = [], [], []
    for pieces, label in (real, generated):
        z_NT, _ = critic(pieces.x_NTD)
        losses.append(-F.logsigmoid(z_NT if label else -z_NT)[pieces.mask_NT].mean())
        ends.append(z_NT.gather(1, pieces.frames_N[:, None] - 1)[:, 0])
        labels.append(torch.full((len(z_NT),), int(label)))
    auc = binary_auroc(torch.cat(ends), torch.cat(labels))
    return CriticScore(float(sum(losses) / 2), float(auc))
