"""AIS and RAISE for anyone's RBM, against the exact log-likelihood of a small one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from exact_rbm import log_weights, log_z, states

import musegen
from musegen.errors import UserError

generator = np.random.default_rng(0)
W, b, c = generator.normal(size=(5, 3)), generator.normal(size=5), generator.normal(size=3)
SCHEDULE = [(300, 1.0)]


def test_ais_gives_log_z() -> None:
    exact = float(log_z(*map(torch.tensor, (W, b, c))))
    for means in (None, np.full(5, 0.4)):
        z = musegen.ais(W, b, c, means, chains=500, schedule=SCHEDULE, seed=1)
        assert z.log_z == pytest.approx(exact, abs=5 * z.error + 1e-3)
        assert 0 < z.error < 0.05
        assert 1 < z.effective_chains <= 500
    assert musegen.ais(W.tolist(), b, c, schedule=SCHEDULE) == musegen.ais(
        torch.tensor(W), torch.tensor(b), c, schedule=SCHEDULE
    )


def test_an_rbm_without_weights_is_exact() -> None:
    z = musegen.ais(np.zeros((4, 2)), np.zeros(4), np.zeros(2), schedule=[(2, 1.0)])
    assert z.log_z == pytest.approx(6 * math.log(2), abs=1e-5)


def test_raise_is_near_the_exact_log_likelihood() -> None:
    x = states(5)[[3, 17, 30]]
    tensors = [torch.tensor(a) for a in (W, b, c)]
    exact = float((log_weights(*tensors)[[3, 17, 30]] - log_z(*tensors)).mean())
    found = musegen.raise_estimate(W, b, c, x, chains=200, schedule=SCHEDULE)
    assert found.log_likelihood == pytest.approx(exact, abs=0.1)
    assert found.error > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((W, c, c), r"b: has shape \(3,\), should have \(5\)"),
        ((W, b, b), r"c: has shape \(5,\), should have \(3\)"),
        ((b, b, c), r"W: has shape \(5,\), should have \(any, any\)"),
        ((W, b, c, c), r"means: has shape \(3,\)"),
        ((W, b, c, None, 1), "chains=1: should be at least 2"),
        ((W, b, c, None, 10, [(10, 0.5)]), "the last β should be 1"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message: str) -> None:
    with pytest.raises(UserError, match=message):
        musegen.ais(*arguments)


def test_raise_needs_bits() -> None:
    with pytest.raises(UserError, match="x: should have values 0 and 1 only"):
        musegen.raise_estimate(W, b, c, np.full((2, 5), 0.5))
