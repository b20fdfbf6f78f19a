"""Dropout: the rate, the scale, the gradient, and the identity outside training."""

from __future__ import annotations

import torch

from musegen.models.layers.dropout import Dropout


def test_rate_and_scale() -> None:
    torch.manual_seed(0)
    x = torch.ones(100_000, requires_grad=True)
    y = Dropout(0.3)(x)
    zero, kept = y.unique().tolist()
    assert zero == 0.0
    assert abs(kept - 1 / 0.7) < 2**-15
    assert abs((y == 0).float().mean().item() - 0.3) < 0.01
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach())


def test_identity_outside_training() -> None:
    x = torch.randn(10)
    assert torch.equal(Dropout(0.3).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
