"""NADE: the exact density of a binary frame, one unit after the other.

Larochelle & Murray, "The Neural Autoregressive Distribution Estimator" (AISTATS 2011):

    p(v) = Π_d p(v_d | v_1 … v_{d−1})
    p(v_d = 1 | v_<d) = σ(b_v[d] + h_d · V[:, d])        h_d = σ(b_h + Σ_{c<d} v_c W[c])

The biases b_v and b_h may differ from frame to frame (Boulanger-Lewandowski et al. 2012). With
`intervals`, which the papers do not have, each unit's logit gets Σ_{c<d} v_c w[d − c] as well: one
weight for each interval, shared by all pitches.

Of the D hidden vectors of a frame only K + 1 differ, where K of its units are on: h changes only
after a unit that is on. Piano-rolls have about 4 of 88 units on, so the sparse algorithm computes
those few vectors, all D logits of each by one matrix product, and takes from each row the logits
that it stands for.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

W_STD, V_STD = 8.0, 0.1
"""Standard deviations of the initial weights. With W so large every hidden unit starts as a feature
of which notes sound, nearly 0 or 1, and training moves W by a fraction of its size. Small initial
weights overfit far sooner: docs/results/rnn_nade.md."""


class NADE(nn.Module):
    """A NADE of `visible` units in the order of their index and `hidden` units.

    The biases are arguments, one row for each frame: b_v_ND and b_h_NH. Suffixes: N frame,
    D visible unit, H hidden unit, M distinct hidden vector, frame by frame, Σ_n (K_n + 1) in all.
    """

    def __init__(self, visible: int, hidden: int, intervals: bool = False) -> None:
        super().__init__()
        self.W_DH = nn.Parameter(torch.randn(visible, hidden) * W_STD)
        self.V_HD = nn.Parameter(torch.randn(hidden, visible) * V_STD)
        self.w_I = nn.Parameter(torch.zeros(visible - 1)) if intervals else None

    def interval_weights(self, w_I: Tensor) -> Tensor:
        """w[d − c] from unit c to unit d where c < d, else 0: (D, D)."""
        unit_D = torch.arange(len(w_I) + 1, device=w_I.device)
        interval_DD = unit_D - unit_D[:, None]
        return w_I[(interval_DD - 1).clamp(0)].triu(1)

    def direct(self, v_ND: Tensor, b_v_ND: Tensor) -> Tensor:
        """What of each logit does not come from the hidden units."""
        return b_v_ND if self.w_I is None else b_v_ND + v_ND @ self.interval_weights(self.w_I)

    def log_prob(self, v_ND: Tensor, b_v_ND: Tensor, b_h_NH: Tensor) -> Tensor:
        """log p of each frame, (N,), in nats.

        The sparse algorithm on a CPU. It has to count the units that are on, and a GPU would let
        the CPU wait for that: there it is the dense one.
        """
        logits = self.dense_logits if v_ND.is_cuda else self.sparse_logits
        return bernoulli_log_prob(v_ND, logits(v_ND, b_v_ND, b_h_NH)).sum(-1)

    def dense_logits(self, v_ND: Tensor, b_v_ND: Tensor, b_h_NH: Tensor) -> Tensor:
        """The logit of each unit given those before it, (N, D), by a cumulative sum over units."""
        before_NDH = F.pad((v_ND[..., None] * self.W_DH).cumsum(1)[:, :-1], (0, 0, 1, 0))
        h_NDH = (b_h_NH[:, None] + before_NDH).sigmoid()
        return self.direct(v_ND, b_v_ND) + torch.einsum("ndh,hd->nd", h_NDH, self.V_HD)

    def sparse_logits(self, v_ND: Tensor, b_v_ND: Tensor, b_h_NH: Tensor) -> Tensor:
        """The same from Σ_n (K_n + 1) hidden vectors instead of N D."""
        # The row of a unit: one for every frame begun, and one more for every unit on before it.
        frame_N1 = torch.arange(len(v_ND), device=v_ND.device)[:, None]
        on_ND = v_ND.long()
        row_ND = on_ND.flatten().cumsum(0).view_as(on_ND) - on_ND + frame_N1
        frame_M = frame_N1[:, 0].repeat_interleave(on_ND.sum(1) + 1)
        row_M1 = torch.arange(len(frame_M), device=v_ND.device)[:, None]
        before_MD = v_ND[frame_M] * (row_ND[frame_M] < row_M1)
        h_MH = (b_h_NH[frame_M] + before_MD @ self.W_DH).sigmoid()
        return self.direct(v_ND, b_v_ND) + (h_MH @ self.V_HD).gather(0, row_ND)

    @torch.no_grad()
    def sample(
        self,
        b_v_ND: Tensor,
        b_h_NH: Tensor,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """An exact ancestral sample of each frame, (N, D), and the log p it was drawn with, (N,).

        Logits are divided by `temperature`. Each unit has one uniform number that decides it. All
        units after the last one on share a hidden vector, so a round finds the next unit that
        comes on in every frame, and there are as many rounds as the fullest frame has units on,
        and one.
        """
        uniform_ND = torch.rand(b_v_ND.shape, generator=generator, device=b_v_ND.device)
        # u < σ(l) where logit(u) < l; a uniform number may be 0.
        threshold_ND = uniform_ND.logit().type_as(b_v_ND)
        v_ND, log_prob_N = torch.zeros_like(b_v_ND), torch.zeros_like(b_v_ND[:, 0])
        unit_D = torch.arange(v_ND.shape[1], device=v_ND.device)
        open_N = torch.arange(len(v_ND), device=v_ND.device)
        next_N, a_NH = torch.zeros_like(open_N), b_h_NH
        while len(open_N):
            direct_ND = self.direct(v_ND[open_N], b_v_ND[open_N])
            logit_ND = (direct_ND + a_NH.sigmoid() @ self.V_HD) / temperature
            ahead_ND = unit_D >= next_N[:, None]
            hit_ND = (threshold_ND[open_N] < logit_ND) & ahead_ND
            found_N, first_N = hit_ND.max(1)
            last_N = torch.where(found_N, first_N, v_ND.shape[1])
            decided_ND = ahead_ND & (unit_D <= last_N[:, None])
            on_ND = (unit_D == last_N[:, None]).type_as(v_ND)
            log_prob_N[open_N] += (bernoulli_log_prob(on_ND, logit_ND) * decided_ND).sum(1)
            v_ND[open_N] += on_ND
            open_N, first_N = open_N[found_N], first_N[found_N]
            next_N, a_NH = first_N + 1, a_NH[found_N] + self.W_DH[first_N]
        return v_ND, log_prob_N


def bernoulli_log_prob(v: Tensor, logit: Tensor) -> Tensor:
    """log p(v) of binary units from their logits, element by element: v·l − log(1 + e^l)."""
    return -F.binary_cross_entropy_with_logits(logit, v, reduction="none")
