"""The distribution of a frame given the past: note by note from low to high, by an LSTM.

    n(d) = LSTM over d of [c(·), the notes of the frame just below d, the chord below d]
    p(x) = Π_d p(x(d) | x(1) … x(d−1)),   each factor Bernoulli with the logit  w·n(d) + v·c(d) + b

c(d) is the context of pitch d: what the earlier frames say about it. The chord below d is a summary
of all notes below d (`musegen.models.layers.chord_below`).

Suffixes: P pitches in [low, high), C numbers of a context, N frames, S samples of each, M = S·N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from musegen.models.layers.chord_below import ChordSoFar, chords_below
from musegen.models.layers.frame_sampler import Given

OUTSIDE_LOGIT = -14.0
"""Logit of each note outside [low, high): a note there costs 14 nats, silence almost 0."""


@dataclass(frozen=True)
class FrameDistribution:
    """The layers of a model that run along pitch, and the D columns of its frames.

    Not a module: the layers belong to the model, whose `state_dict` contains their weights.
    `sounded` is which number of c(d) tells whether d sounded in the frame before; None leaves the
    chord below out.
    """

    lstm: nn.LSTM
    note_logit: nn.Linear
    context_logit: nn.Linear
    dropout: nn.Module
    pitches: int
    low: int
    high: int
    notes_below: int
    sounded: int | None

    def logits(self, c_NPC: Tensor, x_ND: Tensor) -> Tensor:
        """The logit of every note of the frames x_ND given the notes below it, (P, N)."""
        x_NP = x_ND[:, self.low : self.high]
        c_PNC, below = c_NPC.transpose(0, 1), self.notes_below
        inputs = [c_PNC]
        if below:
            inputs.append(F.pad(x_NP, (below, -1)).unfold(-1, below, 1).transpose(0, 1))
        if self.sounded is not None:
            inputs.append(chords_below(x_NP, c_NPC[..., self.sounded]).transpose(0, 1))
        n_PNH, _ = self.lstm(torch.cat(inputs, dim=-1))
        return (self.note_logit(self.dropout(n_PNH)) + self.context_logit(c_PNC)).squeeze(-1)

    def log_prob(self, c_NPC: Tensor, x_ND: Tensor, temperature: float = 1.0) -> Tensor:
        """log p of each frame x_ND, (N,), in nats; all its notes in one pass of the LSTM."""
        logit_PN = self.logits(c_NPC, x_ND).float() / temperature
        x_PN = x_ND[:, self.low : self.high].t()
        nll_PN = F.binary_cross_entropy_with_logits(logit_PN, x_PN.float(), reduction="none")
        return self.outside_log_prob(x_ND) - nll_PN.sum(0)

    def outside_log_prob(self, x_ND: Tensor) -> Tensor:
        """log p of the notes outside [low, high), which are independent, (N,)."""
        x_NZ = torch.cat([x_ND[:, : self.low], x_ND[:, self.high :]], dim=1).float()
        return (OUTSIDE_LOGIT * x_NZ - math.log1p(math.exp(OUTSIDE_LOGIT))).sum(1)

    @torch.no_grad()
    def sample(
        self,
        c_NPC: Tensor,
        samples: int,
        temperature: float,
        generator: Generator,
        given: Given | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Frames sampled note by note, (S, N, D), and their log p, (S, N).

        The logits of the notes in [low, high) are divided by `temperature`. With `given` (S = 1)
        only the other notes are sampled, and log p is that of the weighed notes in [low, high).
        """
        frames, _, width = c_NPC.shape
        context_logit_NP = self.context_logit(c_NPC).squeeze(-1)
        W_ih, W_hh, b_ih, b_hh = self.lstm.all_weights[0]
        # The part of the LSTM's gates that depends on the context only, of all pitches at once.
        context_gates_NP4 = F.linear(c_NPC, W_ih[:, :width], b_ih + b_hh)
        W_Z4 = torch.cat([W_ih[:, width:], W_hh], dim=1).t().contiguous()
        rows = samples * frames
        size = rows, self.pitches
        uniform_MD = torch.rand(size, generator=generator, device=c_NPC.device).to(c_NPC.dtype)
        if given is not None:  # below every probability for a note that sounds, above it otherwise
            uniform_MD = torch.where(given.known_ND, 2 - 3 * given.x_ND, uniform_MD)
        x_MD = (uniform_MD < 1 / (1 + math.exp(-OUTSIDE_LOGIT))).to(c_NPC.dtype)
        x_MD[:, self.low : self.high] = 0
        h_MH = c_NPC.new_zeros(rows, W_hh.shape[1])
        cell_MH = torch.zeros_like(h_MH)
        log_prob_M = self.outside_log_prob(x_MD)
        if given is not None:
            log_prob_M.zero_()
        chord = None
        if self.sounded is not None:
            chord = ChordSoFar(c_NPC[..., self.sounded].repeat(samples, 1))
        for p, d in enumerate(range(self.low, self.high)):
            below_MZ = x_MD[:, max(self.low, d - self.notes_below) : d]
            below_MZ = F.pad(below_MZ, (self.notes_below - below_MZ.shape[1], 0))
            if chord is not None:
                below_MZ = torch.cat([below_MZ, chord.features(p)], dim=1)
            context_gates_M4 = context_gates_NP4[:, p].repeat(samples, 1)
            gates_M4 = torch.addmm(context_gates_M4, torch.cat([below_MZ, h_MH], dim=1), W_Z4)
            i, f, g, o = gates_M4.chunk(4, dim=1)
            cell_MH = f.sigmoid() * cell_MH + i.sigmoid() * g.tanh()
            h_MH = o.sigmoid() * cell_MH.tanh()
            logit_M = self.note_logit(h_MH).squeeze(-1) + context_logit_NP[:, p].repeat(samples)
            logit_M = logit_M / temperature
            x_MD[:, d] = (uniform_MD[:, d] < logit_M.sigmoid()).to(x_MD.dtype)
            if chord is not None:
                chord.append(p, x_MD[:, d])
            log_prob_d_M = F.logsigmoid((2 * x_MD[:, d] - 1) * logit_M)
            log_prob_M += log_prob_d_M if given is None else log_prob_d_M * given.weighed_ND[:, d]
        shape = samples, frames
        return x_MD.unflatten(0, shape), log_prob_M.unflatten(0, shape)
