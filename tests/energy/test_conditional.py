"""Conditional RBMs against exact probabilities, for RBMs small enough to enumerate."""

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
from musegen.runtime import progress

N, D, H = 12, 6, 4


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_frames(scale: float = 1.5) -> ConditionalRBMs:
    g = generator(0)
    x_ND = (torch.rand(N, D, generator=g) < 0.5).float()
    b_v_ND, b_h_NH = (torch.randn(N, width, generator=g) * scale for width in (D, H))
    return ConditionalRBMs(torch.randn(D, H, generator=g) * scale, x_ND, b_v_ND, b_h_NH)


def exact_log_probs(frames: ConditionalRBMs) -> list[torch.Tensor]:
    """log p(v) of each RBM for every v, in the order of `states`."""
    biases = zip(frames.b_v_ND, frames.b_h_NH, strict=True)
    return [log_weights(frames.W_DH, *b).log_softmax(0) for b in biases]


def exact_log_prob_of_frames(frames: ConditionalRBMs) -> torch.Tensor:
    at_x = [(states(D) == x_D).all(1) for x_D in frames.x_ND]
    return torch.cat([p_S[at] for p_S, at in zip(exact_log_probs(frames), at_x, strict=True)])


def test_log_likelihoods_are_within_their_standard_errors() -> None:
    frames = random_frames()
    estimate = estimate_log_prob(frames, 1000, 100, generator())
    assert float(estimate.error_N.max()) < 0.06
    assert bool(
        (
            (estimate.log_prob_N - exact_log_prob_of_frames(frames)).abs() < 4 * estimate.error_N
        ).all()
    )


def test_accuracies_are_expectations_over_every_state() -> None:
    frames = random_frames()
    estimate = estimate_log_prob(frames, 2000, 50, generator())
    every_S1D = states(D).float()[:, None]
    for n, p_S in enumerate(exact_log_probs(frames)):
        accuracy_S = torch.cat([frame_accuracy(frames.x_ND[n : n + 1], v[None]) for v in every_S1D])
        expected = float(p_S.exp() @ accuracy_S.double())
        assert float(estimate.accuracy_N[n]) == pytest.approx(expected, abs=0.04)


def test_raise_is_a_bound_for_samples_of_the_rbms() -> None:
    # From exact samples of the RBMs, where Σ p log p_annealed ≤ Σ p log p.
    samples_per_frame = 200
    frames = random_frames().select(torch.arange(N).repeat_interleave(samples_per_frame))
    sampled = [
        torch.multinomial(p.exp(), samples_per_frame, True, generator=generator())
        for p in exact_log_probs(random_frames())
    ]
    frames = replace(frames, x_ND=states(D).float()[torch.cat(sampled)])
    exact = float(exact_log_prob_of_frames(frames).mean())
    few, many = (float(raise_log_prob(frames, 4, t, generator()).mean()) for t in (2, 200))
    assert few < exact - 0.05
    assert exact - 0.03 < many < exact + 0.01


def test_the_base_has_the_smoothed_marginals_of_the_rbm() -> None:
    frames = random_frames(scale=0.8)
    rbm = frames.with_bases(generator())
    mean_D = torch.stack([p_S.exp() @ states(D) for p_S in exact_log_probs(frames)]).mean(0)
    for n, p_S in enumerate(exact_log_probs(frames)):
        expected_D = 0.7 * p_S.exp() @ states(D) + 0.3 * mean_D
        assert torch.allclose(rbm.base_v[n].sigmoid().double(), expected_D, atol=0.06)
    assert rbm.base_h.shape == (N, H)


def test_that_base_needs_fewer_steps_than_one_base_for_all() -> None:
    frames = random_frames(scale=2.0)
    own_base = frames.with_bases(generator())
    same_base = own_base._replace(base_v=torch.zeros(D), base_h=torch.zeros(H))
    biases = zip(frames.b_v_ND, frames.b_h_NH, strict=True)
    exact_N = torch.stack([log_z(frames.W_DH, *b) for b in biases])
    errors = []
    for rbm in (own_base, same_base):
        particles = conditional.anneal(rbm, 50, ((5, 1.0),), generator())
        z = conditional.log_z(rbm, particles.log_w_S)
        errors.append(float((exact_N - z.value).mean()))
    assert errors[0] < errors[1] / 2


def test_steps_are_raised_until_the_mean_converges(capsys) -> None:
    frames = random_frames()
    result = converged_estimate(frames, 200, 0.02, generator())
    assert result.ais_steps == 300
    assert abs(result.last_change) < 0.02
    mean = result.estimate.log_prob_N.mean()
    assert f"AIS, 300 steps × 200 chains: {mean:.4f} nats" in capsys.readouterr().out
    strict = converged_estimate(frames, 50, 0.0, generator(), max_ais_steps=900)
    assert strict.ais_steps == 900
    assert "not converged" in capsys.readouterr().out


def test_blocks_have_a_bounded_number_of_chains(monkeypatch) -> None:
    frames = random_frames()
    monkeypatch.setitem(conditional.MAX_CHAINS, "cpu", 50)
    assert [len(b) for b in frames.blocks(10)] == [5, 5, 2]
    assert [len(b) for b in frames.blocks(1000)] == [1] * N
    joined = torch.cat([b.x_ND for b in frames.blocks(10)])
    assert torch.equal(joined, frames.x_ND)
    assert len(estimate_log_prob(frames, 10, 5, generator()).log_prob_N) == N


def test_estimates_say_what_they_compute_and_how_far_they_are(capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress.Lines, "patience", 0.0)
    monkeypatch.setitem(conditional.MAX_CHAINS, "cpu", 50)
    estimate_log_prob(random_frames(), 10, 5, generator())
    raise_log_prob(random_frames(), 10, 5, generator())
    lines = capsys.readouterr().err
    assert "log-likelihood by AIS of 5 steps  1/3 blocks of frames\n" in lines
    assert "RAISE by reverse AIS of 5 steps  1/3 blocks of frames\n" in lines
