"""A critic of piano-rolls: how much more probable are the frames so far in real pieces?

A binary classifier of real and generated pieces that reads a piece frame by frame:

    h(t) = GRU over t of tanh(V f(t) + a)            z(t) = w·h(t) + b

f(t) are the notes of frame t, which of them start, their ages, the metre before t, the fraction of
each pitch class in the frames so far, how many pairs of notes sound at each distance, and how many
of the notes that start are at each distance from those of the frame before. Trained with binary
cross-entropy at every frame on equal shares of both kinds, z estimates the logarithm of a ratio of
densities,

    z(t) ≈ log p_real(x(1) … x(t)) − log p_model(x(1) … x(t)),

so that p_model(x) exp(z) is nearer to real pieces than p_model: a residual energy-based model (Deng
et al., "Residual energy-based models for text generation", ICLR 2020).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.models.layers.metre import COMB_PERIODS, VOICES, combs
from musegen.models.layers.note_age import note_ages

FEATURES, HIDDEN = 64, 96
CHORD_STEPS, STEPS = range(1, 37), range(-36, 37)
"""Distances in semitones: of notes that sound together, and of notes that follow each other."""
INPUT_DROPOUT, DROPOUT = 0.1, 0.5
"""The real pieces are few, so the critic is small and its dropout strong."""


class RollCritic(nn.Module):
    """z of piano-rolls of `pitches` columns, of which the first `low_pitches` are below middle C.

    It is trained after the model (`musegen.training.critic`), so a training leaves it alone.
    """

    def __init__(self, pitches: int, low_pitches: int) -> None:
        super().__init__()
        self.low_pitches = low_pitches
        self.octaves = -(-pitches // 12)
        inputs = 3 * pitches + VOICES * (len(COMB_PERIODS) + 1) + 12 + len(CHORD_STEPS) + len(STEPS)
        self.embed = nn.Linear(inputs, FEATURES)
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.logit = nn.Linear(HIDDEN, 1)
        self.requires_grad_(False)

    def forward(
        self, x_BTD: Tensor, first: int = 0, state: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """z(first) … z(T − 1), (B, T − first), of pieces, and the state of the GRU after them.

        `state` is the one after frame first − 1.
        """
        f_BTF = self.features(x_BTD.to(self.embed.weight.dtype), first)
        f_BTF = F.dropout(f_BTF, INPUT_DROPOUT, self.training)
        e_BTF = F.dropout(self.embed(f_BTF).tanh(), DROPOUT, self.training)
        h_BTH, state = self.gru(e_BTF, state)
        return self.logit(F.dropout(h_BTH, DROPOUT, self.training)).squeeze(-1), state

    def features(self, x_BTD: Tensor, first: int = 0) -> Tensor:
        """f(first) … f(T − 1), (B, T − first, F)."""
        before_BTD = F.pad(x_BTD, (0, 0, 1, 0))[:, :-1]
        starts_BTD = x_BTD * (1 - before_BTD)
        age_BTD = (1 + note_ages(x_BTD).to(x_BTD.dtype)).log2() / 5
        metre_BTZ = combs(before_BTD, x_BTD.shape[1] - first, self.low_pitches)
        padded_BTZ = F.pad(x_BTD, (0, 12 * self.octaves - x_BTD.shape[2]))
        count_BTK = padded_BTZ.unflatten(-1, (-1, 12)).sum(-2).cumsum(1)
        fraction_BTK = count_BTK / count_BTK.sum(-1, keepdim=True).clamp_min(1)
        whole = x_BTD, before_BTD, starts_BTD, age_BTD, fraction_BTK
        x_BTD, before_BTD, starts_BTD, age_BTD, fraction_BTK = (z[:, first:] for z in whole)
        parts = [x_BTD, starts_BTD, age_BTD, metre_BTZ, fraction_BTK]
        parts += [pairs(x_BTD, x_BTD, CHORD_STEPS), pairs(before_BTD, starts_BTD, STEPS)]
        return torch.cat(parts, dim=-1)


def pairs(a_BTD: Tensor, b_BTD: Tensor, steps: range) -> Tensor:
    """Half the number of pairs of a note of a and one of b that is s columns higher, (B, T, S)."""
    pitches, most = a_BTD.shape[2], max(map(abs, steps))
    padded_BTZ = F.pad(b_BTD, (most, most))
    counts = [(a_BTD * padded_BTZ[..., most + s : most + s + pitches]).sum(-1) for s in steps]
    return torch.stack(counts, dim=-1) / 2
