"""Annealed importance sampling against the exact partition function of small RBMs."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from exact_rbm import log_weights, log_z, states

from musegen.energy import ais
from musegen.energy.ais import (
    SALAKHUTDINOV_MURRAY,
    AnnealedRBM,
    forward_ais,
    inverse_temperatures,
    reverse_ais,
)
from musegen.errors import UserError
from musegen.runtime import progress

D, H = 6, 4
COARSE = ((4, 1.0),)
FINE = ((40, 0.5), (160, 1.0))


def small_rbm(seed: int = 0, scale: float = 1.5) -> AnnealedRBM:
    g = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=g) * scale

    return AnnealedRBM(normal(D, H), normal(D), normal(H), normal(D) / scale, normal(H) / scale)


def exact_log_z(rbm: AnnealedRBM) -> float:
    return float(log_z(*rbm[:3]))


def exact_samples(rbm: AnnealedRBM, n: int) -> torch.Tensor:
    p = log_weights(*rbm[:3]).softmax(0)
    return states(D)[torch.multinomial(p, n, True, generator=generator(5))].float()


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True, params=["compiled", "torch"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs every test with the compiled loops and with torch's kernels, as on a GPU."""
    if request.param == "torch":
        monkeypatch.setattr(ais, "fits_in_cache", lambda W_DH: False)


@pytest.mark.parametrize("seed", range(4))
def test_forward_is_within_its_stated_error(seed: int) -> None:
    rbm = small_rbm(seed)
    z = forward_ais(rbm, 1000, FINE, generator())
    assert 0 < float(z.error) < 0.05
    assert abs(float(z.value) - exact_log_z(rbm)) < 4 * float(z.error)
    assert 100 < float(z.effective_chains) <= 1000


def test_an_rbm_without_weights_has_a_closed_form() -> None:
    b_v = torch.tensor([2.0, -1.0, 0.5])
    rbm = AnnealedRBM(torch.zeros(3, 5), b_v, torch.zeros(5), b_v, torch.zeros(5))
    by_hand = 5 * math.log(2) + sum(math.log1p(math.exp(b)) for b in (2.0, -1.0, 0.5))
    z = forward_ais(rbm, 7, COARSE, generator())
    assert float(z.value) == pytest.approx(by_hand, abs=1e-6)
    assert float(z.error) == pytest.approx(0, abs=1e-6)
    assert float(z.effective_chains) == pytest.approx(7, abs=1e-3)
    z_N = reverse_ais(rbm, torch.eye(3), 1, COARSE, generator())
    assert z_N.tolist() == pytest.approx([by_hand] * 3, abs=1e-6)


def test_forward_weights_are_unbiased_with_a_coarse_schedule() -> None:
    rbm = small_rbm()
    z = forward_ais(rbm, 200_000, COARSE, generator())
    ratio = math.exp(float(z.value) - exact_log_z(rbm))
    assert abs(ratio - 1) < 4 * float(z.error) < 0.2


def test_reverse_weights_are_unbiased_from_exact_samples() -> None:
    rbm = small_rbm()
    z_N = reverse_ais(rbm, exact_samples(rbm, 100_000), 1, COARSE, generator())
    ratio_N = (exact_log_z(rbm) - z_N).exp()
    error = float(ratio_N.std()) / math.sqrt(len(ratio_N))
    assert abs(float(ratio_N.mean()) - 1) < 4 * error < 0.2


@pytest.mark.parametrize("seed", range(3))
def test_both_directions_enclose_the_exact_log_z(seed: int) -> None:
    # Bidirectional Monte Carlo (Grosse et al. 2015): the reverse chains start at exact samples.
    rbm, n = small_rbm(seed), 4000
    copies = rbm._replace(b_v=rbm.b_v.expand(n, D), b_h=rbm.b_h.expand(n, H))
    gaps = []
    for schedule in (COARSE, FINE):
        lower = forward_ais(copies, 2, schedule, generator()).value.mean()
        upper = reverse_ais(rbm, exact_samples(rbm, n), 1, schedule, generator()).mean()
        assert lower < exact_log_z(rbm) < upper
        gaps.append(float(upper - lower))
    assert gaps[1] < 0.2 * gaps[0]


def test_raise_from_data_can_exceed_the_exact_log_probability() -> None:
    # An RBM with 8 visible and 6 hidden units, and data that it finds improbable. The annealed
    # approximation is closer to its base and gives these data a higher probability, so RAISE is
    # not a bound on the RBM's log-probability. From the RBM's own samples it is one, on average.
    g = generator(0)
    W_DH, b_v, b_h = (2 * torch.randn(*size, generator=g) for size in ((8, 6), (8,), (6,)))
    rbm = AnnealedRBM(W_DH, b_v, b_h, torch.zeros(8), torch.zeros(6))
    log_p_N = log_weights(W_DH, b_v, b_h).log_softmax(0)

    def raise_estimate(x_N: torch.Tensor, steps: int) -> float:
        x_ND = states(8)[x_N].float()
        z_N = reverse_ais(rbm, x_ND, 10, ((steps, 1.0),), generator())
        return float((rbm.log_f(x_ND) - z_N).mean())

    improbable_N = log_p_N.argsort()[:32].repeat(20)
    exact = float(log_p_N[improbable_N].mean())
    five, thirty, thousand = (raise_estimate(improbable_N, steps) for steps in (5, 30, 1000))
    assert five > thirty + 1 > exact + 1.3
    assert thousand == pytest.approx(exact, abs=0.15)
    sampled_N = torch.multinomial(log_p_N.exp(), 2000, True, generator=generator(5))
    assert raise_estimate(sampled_N, 5) < float(log_p_N[sampled_N].mean())


def test_raise_is_unbiased_for_the_annealed_approximation() -> None:
    # Σ_x exp(−F(x) − value) averages to the sum of a distribution over all x, which is 1.
    rbm = small_rbm()
    x_ND = states(D).float()
    z_N = reverse_ais(rbm, x_ND, 20_000, ((2, 1.0),), generator())
    assert float((rbm.log_f(x_ND) - z_N).exp().sum()) == pytest.approx(1, abs=0.02)


def test_several_rbms_share_only_their_weights() -> None:
    one = small_rbm()
    b_v = torch.stack([one.b_v, -one.b_v, one.b_v + 1])
    b_h = torch.stack([one.b_h, one.b_h - 1, -one.b_h])
    z = forward_ais(
        AnnealedRBM(one.W_DH, b_v, b_h, one.base_v, one.base_h), 1000, FINE, generator()
    )
    for n in range(3):
        exact = float(log_z(one.W_DH, b_v[n], b_h[n]))
        assert abs(float(z.value[n]) - exact) < 4 * float(z.error[n]) < 0.2


def test_log_f_is_the_sum_over_hidden_states() -> None:
    rbm = small_rbm()
    log_f_N = rbm.log_f(states(D).float())
    assert torch.allclose(log_f_N, log_weights(*rbm[:3]), atol=1e-4)


def test_the_global_random_stream_is_not_used() -> None:
    before = torch.get_rng_state()
    forward_ais(small_rbm(), 3, COARSE, generator())
    assert torch.equal(before, torch.get_rng_state())


def test_a_schedule_increases_to_one() -> None:
    assert inverse_temperatures([(2, 0.5), (1, 1.0)]) == [0, 0.25, 0.5, 1]
    default = inverse_temperatures(SALAKHUTDINOV_MURRAY)
    assert len(default) == 14_501
    assert default[500] == 0.5
    for wrong in ([(2, 0.5)], [(2, 0.5), (2, 0.4), (2, 1.0)], [(0, 1.0)], [(3, 1.5)]):
        with pytest.raises(UserError, match="schedule="):
            inverse_temperatures(wrong)


@pytest.mark.parametrize("scale", [0.1, 5.0, 60.0, 1000.0])
def test_log_sigmoid_difference(scale: float) -> None:
    # At 60 some units are beyond the range of σ in float32, at 1000 the product of ratios is too.
    g = torch.Generator().manual_seed(0)
    before_SH = torch.randn(50, 30, generator=g) * scale
    after_SH = before_SH + torch.randn(50, 30, generator=g) * scale / 10
    expected_S = (F.softplus(-after_SH.double()) - F.softplus(-before_SH.double())).sum(-1)
    result_S = ais._log_sigmoid_difference(before_SH.clone(), after_SH.clone())
    torch.testing.assert_close(result_S, expected_S, rtol=1e-5, atol=1e-5)


def test_each_pass_is_named_in_the_display(capsys, monkeypatch) -> None:
    monkeypatch.setattr(progress.Lines, "patience", 0.0)
    rbm, x_ND = small_rbm(), states(D)[:3].float()
    forward_ais(rbm, 2, ((200, 1.0),), generator())
    reverse_ais(rbm, x_ND, 2, ((200, 1.0),), generator())
    passes = [line.partition("  ")[0] for line in capsys.readouterr().err.splitlines()]
    assert list(dict.fromkeys(passes)) == ["forward AIS", "reverse AIS"]
