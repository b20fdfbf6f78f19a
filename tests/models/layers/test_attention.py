"""Pointers into a piece's own past against their equations, one step at a time."""

from __future__ import annotations

import math

import pytest
import torch

from musegen.models.layers.attention import CausalAttention

B, T, R, D, HEADS, WIDTH = 2, 9, 5, 4, 2, 3
G = torch.Generator().manual_seed(1)
U_BTR = torch.randn(B, T, R, generator=G, dtype=torch.float64)
X_BTD = (torch.rand(B, T, D, generator=G) < 0.5).double()


def drawn(span: int) -> CausalAttention:
    torch.manual_seed(0)
    attention = CausalAttention(R, D, HEADS, WIDTH, span).double()
    for p in attention.parameters():
        torch.nn.init.normal_(p)
    return attention


@torch.no_grad()
def by_hand(attention: CausalAttention, b: int, t: int) -> torch.Tensor:
    """r(t) of one sequence, each score written out."""
    past = range(max(0, t - attention.span), t)
    parts = []
    for m in range(HEADS):
        head = slice(m * WIDTH, (m + 1) * WIDTH)
        q_W = attention.query(U_BTR[b, t])[head]
        e = [
            q_W @ attention.key(U_BTR[b, s])[head] / math.sqrt(WIDTH)
            + attention.distance_bias_MS[m, t - s - 1]
            for s in past
        ]
        a_S = torch.stack([*e, attention.null_M[m]]).softmax(0)
        frames_SD = torch.stack([*(X_BTD[b, s] for s in past), torch.zeros(D).double()])
        parts += [a_S @ frames_SD, a_S[-1:]]
    return torch.cat(parts)


@pytest.mark.parametrize("span", [1, 3, 4, 20])
def test_each_step_reads_its_own_past(span: int) -> None:
    # Spans shorter than the sequence take it in blocks; 3 divides it and 4 does not.
    attention = drawn(span)
    r_BTZ = attention.all_steps(U_BTR, X_BTD)
    assert r_BTZ.shape == (B, T, attention.out_features)
    for b in range(B):
        for t in range(T):
            torch.testing.assert_close(r_BTZ[b, t], by_hand(attention, b, t))
            torch.testing.assert_close(attention.step(t, U_BTR, X_BTD)[b], r_BTZ[b, t])


def test_what_is_to_come_is_not_seen() -> None:
    attention, t = drawn(20), 5
    other_BTD = X_BTD.clone()
    other_BTD[:, t:] = 1 - X_BTD[:, t:]
    before, after = (attention.all_steps(U_BTR, x) for x in (X_BTD, other_BTD))
    assert torch.equal(before[:, : t + 1], after[:, : t + 1])
    assert not torch.equal(before[:, t + 1], after[:, t + 1])


def test_every_weight_has_the_gradient_that_differences_give() -> None:
    attention = drawn(4)
    names = [name for name, _ in attention.named_parameters()]

    def r(*weights: torch.Tensor) -> torch.Tensor:
        own = dict(zip(names, weights, strict=True))
        u_BTR, x_BTD = U_BTR[:1, :6], X_BTD[:1, :6]
        blocks = [(0, 0, 4), (4, 0, 6)]
        return torch.cat(
            [
                torch.func.functional_call(
                    attention,
                    own,
                    (u_BTR[:, now:last], u_BTR[:, first:last], x_BTD[:, first:last], now - first),
                )
                for now, first, last in blocks
            ],
            dim=1,
        )

    assert torch.autograd.gradcheck(
        r, [p.detach().requires_grad_() for p in attention.parameters()]
    )
