"""NADE: a neural autoregressive model of binary frames, with exact probabilities.

Larochelle & Murray, "The Neural Autoregressive Distribution Estimator" (AISTATS 2011):

    p(v) = Π_d p(v_d | v_1 … v_{d−1})
    p(v_d = 1 | v_<d) = σ(b_v[d] + h_d · V[:, d])        h_d = σ(b_h + Σ_{c<d} v_c W[c])

The biases b_v and b_h may differ between frames (Boulanger-Lewandowski et al. 2012). `intervals`,
which the papers do not have, adds Σ_{c<d} v_c w[d − c] to the logit of each unit d: one weight for
each interval, shared by all pitches.

h changes only after a unit that is on. So if K units of a frame are on, only K + 1 of its D hidden
vectors differ. In piano-rolls about 4 of 88 units are on. The sparse algorithm computes the K + 1
vectors, then all D logits of each by one matrix product, and selects the logits that each vector is
valid for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musegen.models.layers.frame_sampler import Given

W_STD, V_STD = 8.0, 0.1
"""Standard deviations of the initial weights. With such a large W every hidden unit starts as a
nearly binary feature of the notes, and training changes W by a fraction of its size. Small initial
weights overfit much earlier: docs/results/rnn_nade.md."""


class NADE(nn.Module):
    """A NADE with `visible` units, in the order of their indices, and `hidden` units.

    The biases are arguments, one row for each frame: b_v_ND and b_h_NH. Suffixes: N frame,
    D visible unit, H hidden unit, M distinct hidden vector, of which there are Σ_n (K_n + 1),
    ordered by frame.
    """

    def __init__(self, visible: int, hidden: int, intervals: bool = False) -> None:
        super().__init__()
        self.W_DH = nn.Parameter(torch.randn(visible, hidden) * W_STD)
        self.V_HD = nn.Parameter(torch.randn(hidden, visible) * V_STD)
        self.w_I = nn.Parameter(torch.zeros(visible - 1)) if intervals else None

    def interval_weights(self, w_I: Tensor) -> Tensor:
        """The weights from unit c to unit d, (D, D): w[d − c] if c < d, otherwise 0."""
        unit_D = torch.arange(len(w_I) + 1, device=w_I.device)
        interval_DD = unit_D - unit_D[:, None]
        return w_I[(interval_DD - 1).clamp(0)].triu(1)

    def direct_logits(self, v_ND: Tensor, b_v_ND: Tensor) -> Tensor:
        """The part of each logit that does not depend on the hidden units, (N, D)."""
        return b_v_ND if self.w_I is None else b_v_ND + v_ND @ self.interval_weights(self.w_I)

    def log_prob(
        self, v_ND: Tensor, b_v_ND: Tensor, b_h_NH: Tensor, temperature: float = 1.0
    ) -> Tensor:
        """log p of each frame, (N,), in nats; the logits are divided by `temperature`.

        By the sparse algorithm on a CPU, by the dense one on a GPU: the sparse algorithm has to
        count the units that are on, and the CPU would have to wait for a GPU to do this.
        """
        logits = self.dense_logits if v_ND.is_cuda else self.sparse_logits
        return bernoulli_log_prob(v_ND, logits(v_ND, b_v_ND, b_h_NH) / temperature).sum(-1)

    def dense_logits(self, v_ND: Tensor, b_v_ND: Tensor, b_h_NH: Tensor) -> Tensor:
        """The logit of each unit given the units before it, (N, D), by a cumulative sum."""
        before_NDH = F.pad((v_ND[..., None] * self.W_DH).cumsum(1)[:, :-1], (0, 0, 1, 0))
        h_NDH = (b_h_NH[:, None] + before_NDH).sigmoid()
        return self.direct_logits(v_ND, b_v_ND) + torch.einsum("ndh,hd->nd", h_NDH, self.V_HD)

    def sparse_logits(self, v_ND: Tensor, b_v_ND: Tensor, b_h_NH: Tensor) -> Tensor:
        """The logits of `dense_logits` from Σ_n (K_n + 1) hidden vectors instead of N·D."""
        # The hidden vector of each unit, as an index into M. It increases by 1 with every unit
        # that is on and with every new frame.
        frame_N1 = torch.arange(len(v_ND), device=v_ND.device)[:, None]
        on_ND = v_ND.long()
        index_ND = on_ND.flatten().cumsum(0).view_as(on_ND) - on_ND + frame_N1
        frame_M = frame_N1[:, 0].repeat_interleave(on_ND.sum(1) + 1)
        index_M1 = torch.arange(len(frame_M), device=v_ND.device)[:, None]
        before_MD = v_ND[frame_M] * (index_ND[frame_M] < index_M1)
        h_MH = (b_h_NH[frame_M] + before_MD @ self.W_DH).sigmoid()
        return self.direct_logits(v_ND, b_v_ND) + (h_MH @ self.V_HD).gather(0, index_ND)

    @torch.no_grad()
    def sample(
        self,
        b_v_ND: Tensor,
        b_h_NH: Tensor,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        given: Given | None = None,
    ) -> tuple[Tensor, Tensor]:
        """An exact ancestral sample of each frame, (N, D), and its log probability, (N,).

        The logits are divided by `temperature`. With `given` only the other units are sampled, and
        the log probability is that of the weighed units.

        One uniform number decides each unit. The units after the last unit that is on share a
        hidden vector, so each round finds the next unit that is on, in all frames at once. The
        number of rounds is the largest number of units on in a frame, plus 1.
        """
        uniform_ND = torch.rand(b_v_ND.shape, generator=generator, device=b_v_ND.device)
        if given is not None:
            uniform_ND = torch.where(given.known_ND, 1 - given.x_ND.float(), uniform_ND)
        # u < σ(l) is the same as logit(u) < l; logit(0) = −∞ is allowed.
        threshold_ND = uniform_ND.logit().type_as(b_v_ND)
        v_ND, log_prob_N = torch.zeros_like(b_v_ND), torch.zeros_like(b_v_ND[:, 0])
        unit_D = torch.arange(v_ND.shape[1], device=v_ND.device)
        active_N = torch.arange(len(v_ND), device=v_ND.device)
        next_N, a_NH = torch.zeros_like(active_N), b_h_NH
        while len(active_N):
            direct_logit_ND = self.direct_logits(v_ND[active_N], b_v_ND[active_N])
            logit_ND = (direct_logit_ND + a_NH.sigmoid() @ self.V_HD) / temperature
            undecided_ND = unit_D >= next_N[:, None]
            turns_on_ND = (threshold_ND[active_N] < logit_ND) & undecided_ND
            found_N, first_N = turns_on_ND.max(1)
            last_N = torch.where(found_N, first_N, v_ND.shape[1])
            decided_ND = undecided_ND & (unit_D <= last_N[:, None])
            on_ND = (unit_D == last_N[:, None]).type_as(v_ND)
            counted_ND = decided_ND if given is None else decided_ND & given.weighed_ND[active_N]
            log_prob_N[active_N] += (bernoulli_log_prob(on_ND, logit_ND) * counted_ND).sum(1)
            v_ND[active_N] += on_ND
            active_N, first_N = active_N[found_N], first_N[found_N]
            next_N, a_NH = first_N + 1, a_NH[found_N] + self.W_DH[first_N]
        return v_ND, log_prob_N


def bernoulli_log_prob(v: Tensor, logit: Tensor) -> Tensor:
    """log p(v) of each binary unit from its logit l: v·l − log(1 + e^l)."""
    return -F.binary_cross_entropy_with_logits(logit, v, reduction="none")
