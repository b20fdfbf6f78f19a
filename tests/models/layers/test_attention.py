"""Causal attention against its equations, one step at a time."""

from __future__ import annotations

import math

import pytest
import torch

from musegen.models.layers.attention import CausalAttention

B, T, R, D, HEADS, WIDTH = 2, 9, 5, 4, 2, 3
G = torch.Generator().manual_seed(1)
U_BTR = torch.randn(B, T, R, generator=G, dtype=torch.float64)
X_BTD = (torch.rand(B, T, D, generator=G) < 0.5).double()


def random_attention(span: int) -> CausalAttention:
    torch.manual_seed(0)
    attention = CausalAttention(R, D, HEADS, WIDTH, span).double()
    for p in attention.parameters():
        torch.nn.init.normal_(p)
    return attention


@torch.no_grad()
def reference(attention: CausalAttention, b: int, t: int) -> torch.Tensor:
    """r(t) of one sequence, with every score computed by itself."""
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
def test_each_step_attends_to_its_own_past(span: int) -> None:
    # Spans shorter than the sequence are computed in blocks; 3 divides its length, 4 does not.
    attention = random_attention(span)
    r_BTZ = attention.all_steps(U_BTR, X_BTD)
    assert r_BTZ.shape == (B, T, attention.out_features)
    for b in range(B):
        for t in range(T):
            torch.testing.assert_close(r_BTZ[b, t], reference(attention, b, t))
            torch.testing.assert_close(attention.step(t, U_BTR, X_BTD)[b], r_BTZ[b, t])


def test_later_frames_are_masked() -> None:
    attention, t = random_attention(20), 5
    other_BTD = X_BTD.clone()
    other_BTD[:, t:] = 1 - X_BTD[:, t:]
    before, after = (attention.all_steps(U_BTR, x) for x in (X_BTD, other_BTD))
    assert torch.equal(before[:, : t + 1], after[:, : t + 1])
    assert not torch.equal(before[:, t + 1], after[:, t + 1])


def test_gradients_equal_finite_differences() -> None:
    attention = random_attention(4)
    names = [name for name, _ in attention.named_parameters()]

    def r(*weights: torch.Tensor) -> torch.Tensor:
        named = dict(zip(names, weights, strict=True))
        u_BTR, x_BTD = U_BTR[:1, :6], X_BTD[:1, :6]
        blocks = [(0, 0, 4), (4, 0, 6)]  # first query, first key, end of both
        return torch.cat(
            [
                torch.func.functional_call(
                    attention,
                    named,
                    (u_BTR[:, query:end], u_BTR[:, key:end], x_BTD[:, key:end], query - key),
                )
                for query, key, end in blocks
            ],
            dim=1,
        )

    assert torch.autograd.gradcheck(
        r, [p.detach().requires_grad_() for p in attention.parameters()]
    )
