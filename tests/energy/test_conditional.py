"""Frames under machines of their own, against machines small enough to count."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from exact_rbm import log_weights, log_z, states

from musegen.energy import conditional
from musegen.energy.conditional import (
    ConditionalRBMs,
    converged_estimate,
    estimate_log_prob,
    raise_log_prob,
)
from musegen.metrics.accuracy import frame_accuracy

N, D, H = 12, 6, 4


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def some_frames(scale: float = 1.5) -> ConditionalRBMs:
    g = generator(0)
    x_ND = (torch.rand(N, D, generator=g) < 0.5).float()
    b_v_ND, b_h_NH = (torch.randn(N, width, generator=g) * scale for width in (D, H))
    return ConditionalRBMs(torch.randn(D, H, generator=g) * scale, x_ND, b_v_ND, b_h_NH)


def exactly(frames: ConditionalRBMs) -> list[torch.Tensor]:
    """log p(v) of each machine for every v in the order of `states`."""
    biases = zip(frames.b_v_ND, frames.b_h_NH, strict=True)
    return [log_weights(frames.W_DH, *b).log_softmax(0) for b in biases]


def exact_nats(frames: ConditionalRBMs) -> torch.Tensor:
    at_x = [(states(D) == x_D).all(1) for x_D in frames.x_ND]
    return torch.cat([p_S[at] for p_S, at in zip(exactly(frames), at_x, strict=True)])


def test_likelihoods_are_within_their_stated_errors() -> None:
    frames = some_frames()
    found = estimate_log_prob(frames, 1000, 100, generator())
    assert float(found.error_N.max()) < 0.06
    assert bool(((found.log_prob_N - exact_nats(frames)).abs() < 4 * found.error_N).all())


def test_accuracies_are_expected_over_every_state() -> None:
    frames = some_frames()
    found = estimate_log_prob(frames, 2000, 50, generator())
    every_S1D = states(D).float()[:, None]
    for n, p_S in enumerate(exactly(frames)):
        right_S = torch.cat([frame_accuracy(frames.x_ND[n : n + 1], v[None]) for v in every_S1D])
        expected = float(p_S.exp() @ right_S.double())
        assert float(found.accuracy_N[n]) == pytest.approx(expected, abs=0.04)


def test_reverse_bounds_lie_below() -> None:
    # Of frames that the machines themselves have drawn, where Σ p log p_annealed ≤ Σ p log p.
    frames = some_frames().select(torch.arange(N).repeat_interleave(200))
    drawn = [torch.multinomial(p.exp(), 200, True, generator=generator()) for p in
             exactly(some_frames())]  # fmt: skip
    frames = replace(frames, x_ND=states(D).float()[torch.cat(drawn)])
    truth = float(exact_nats(frames).mean())
    few, many = (float(raise_log_prob(frames, 4, t, generator()).mean()) for t in (2, 200))
    assert few < truth - 0.05
    assert truth - 0.03 < many < truth + 0.01


def test_the_base_has_the_machines_marginals_blunted() -> None:
    frames = some_frames(scale=0.8)
    machine = frames.with_bases(generator())
    everywhere_D = torch.stack([p_S.exp() @ states(D) for p_S in exactly(frames)]).mean(0)
    for n, p_S in enumerate(exactly(frames)):
        expected_D = 0.7 * p_S.exp() @ states(D) + 0.3 * everywhere_D
        assert torch.allclose(machine.base_v[n].sigmoid().double(), expected_D, atol=0.06)
    assert machine.base_h.shape == (N, H)


def test_that_base_needs_fewer_temperatures_than_one_base_for_all() -> None:
    frames = some_frames(scale=2.0)
    machine = frames.with_bases(generator())
    alike = machine._replace(base_v=torch.zeros(D), base_h=torch.zeros(H))
    truth = torch.stack([
        log_z(frames.W_DH, *b) for b in zip(frames.b_v_ND, frames.b_h_NH, strict=True)
    ])  # fmt: skip
    off = [
        float((truth - conditional.log_z(m, conditional.anneal(m, 50, ((5, 1.0),), generator())[1])
               .value).mean())
        for m in (machine, alike)
    ]  # fmt: skip
    assert off[0] < off[1] / 2


def test_temperatures_rise_until_the_mean_stands_still(capsys) -> None:
    frames = some_frames()
    found = converged_estimate(frames, 200, 0.02, generator())
    assert found.ais_steps == 300
    assert abs(found.moved) < 0.02
    assert f"AIS 300 × 200: {found.estimate.log_prob_N.mean():.4f} nats" in capsys.readouterr().out
    strict = converged_estimate(frames, 50, 0.0, generator(), most=900)
    assert strict.ais_steps == 900
    assert "not converged" in capsys.readouterr().out


def test_blocks_hold_no_more_than_memory_is_meant_for(monkeypatch) -> None:
    frames = some_frames()
    monkeypatch.setitem(conditional.MAX_CHAINS, "cpu", 50)
    assert [len(b) for b in frames.blocks(10)] == [5, 5, 2]
    assert [len(b) for b in frames.blocks(1000)] == [1] * N
    joined = torch.cat([b.x_ND for b in frames.blocks(10)])
    assert torch.equal(joined, frames.x_ND)
    assert len(estimate_log_prob(frames, 10, 5, generator()).log_prob_N) == N
