"""Annealed importance sampling against the exact partition function of small machines."""

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

D, H = 6, 4
ROUGH = ((4, 1.0),)
FINE = ((40, 0.5), (160, 1.0))


def a_machine(seed: int = 0, scale: float = 1.5) -> AnnealedRBM:
    g = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=g) * scale

    return AnnealedRBM(normal(D, H), normal(D), normal(H), normal(D) / scale, normal(H) / scale)


def exact(machine: AnnealedRBM) -> float:
    return float(log_z(*machine[:3]))


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True, params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds of the compiled loops and of torch's kernels, as on a GPU."""
    if request.param == "torch":
        monkeypatch.setattr(ais, "fits_in_cache", lambda W_DH: False)


@pytest.mark.parametrize("seed", range(4))
def test_forward_is_within_its_stated_error(seed: int) -> None:
    machine = a_machine(seed)
    z = forward_ais(machine, 1000, FINE, generator())
    assert 0 < float(z.error) < 0.05
    assert abs(float(z.value) - exact(machine)) < 4 * float(z.error)
    assert 100 < float(z.effective_chains) <= 1000


def test_a_machine_without_weights_is_known_exactly() -> None:
    b_v = torch.tensor([2.0, -1.0, 0.5])
    machine = AnnealedRBM(torch.zeros(3, 5), b_v, torch.zeros(5), b_v, torch.zeros(5))
    by_hand = 5 * math.log(2) + sum(math.log1p(math.exp(b)) for b in (2.0, -1.0, 0.5))
    z = forward_ais(machine, 7, ROUGH, generator())
    assert float(z.value) == pytest.approx(by_hand, abs=1e-6)
    assert float(z.error) == pytest.approx(0, abs=1e-6)
    assert float(z.effective_chains) == pytest.approx(7, abs=1e-3)
    z_N = reverse_ais(machine, torch.eye(3), 1, ROUGH, generator())
    assert z_N.tolist() == pytest.approx([by_hand] * 3, abs=1e-6)


def test_forward_weights_are_unbiased_however_rough_the_schedule() -> None:
    machine = a_machine()
    z = forward_ais(machine, 200_000, ROUGH, generator())
    ratio = math.exp(float(z.value) - exact(machine))
    assert abs(ratio - 1) < 4 * float(z.error) < 0.2


def drawn_exactly(machine: AnnealedRBM, n: int) -> torch.Tensor:
    p = log_weights(*machine[:3]).softmax(0)
    return states(D)[torch.multinomial(p, n, True, generator=generator(5))].float()


def test_reverse_weights_are_unbiased_from_the_machines_own_samples() -> None:
    machine = a_machine()
    z_N = reverse_ais(machine, drawn_exactly(machine, 100_000), 1, ROUGH, generator())
    ratio_N = (exact(machine) - z_N).exp()
    error = float(ratio_N.std()) / math.sqrt(len(ratio_N))
    assert abs(float(ratio_N.mean()) - 1) < 4 * error < 0.2


@pytest.mark.parametrize("seed", range(3))
def test_the_two_directions_bracket_the_truth(seed: int) -> None:
    machine, n = a_machine(seed), 4000
    many = machine._replace(b_v=machine.b_v.expand(n, D), b_h=machine.b_h.expand(n, H))
    gaps = []
    for schedule in (ROUGH, FINE):
        below = forward_ais(many, 2, schedule, generator()).value.mean()
        above = reverse_ais(machine, drawn_exactly(machine, n), 1, schedule, generator()).mean()
        assert below < exact(machine) < above
        gaps.append(float(above - below))
    assert gaps[1] < 0.2 * gaps[0]


def test_reverse_is_a_lower_bound_on_the_annealed_distribution() -> None:
    # Σ_x exp(−F(x) − value) averages to a distribution over all x: its sum is 1.
    machine = a_machine()
    x_ND = states(D).float()
    z_N = reverse_ais(machine, x_ND, 20_000, ((2, 1.0),), generator())
    assert float((machine.log_f(x_ND) - z_N).exp().sum()) == pytest.approx(1, abs=0.02)


def test_machines_side_by_side_share_the_weights_only() -> None:
    one = a_machine()
    b_v = torch.stack([one.b_v, -one.b_v, one.b_v + 1])
    b_h = torch.stack([one.b_h, one.b_h - 1, -one.b_h])
    z = forward_ais(
        AnnealedRBM(one.W_DH, b_v, b_h, one.base_v, one.base_h), 1000, FINE, generator()
    )
    for n in range(3):
        truth = float(log_z(one.W_DH, b_v[n], b_h[n]))
        assert abs(float(z.value[n]) - truth) < 4 * float(z.error[n]) < 0.2


def test_log_f_is_summed_over_every_hidden_state() -> None:
    machine = a_machine()
    ours = machine.log_f(states(D).float())
    assert torch.allclose(ours, log_weights(*machine[:3]), atol=1e-4)


def test_the_global_random_stream_is_left_alone() -> None:
    before = torch.get_rng_state()
    forward_ais(a_machine(), 3, ROUGH, generator())
    assert torch.equal(before, torch.get_rng_state())


def test_schedules() -> None:
    assert inverse_temperatures([(2, 0.5), (1, 1.0)]) == [0, 0.25, 0.5, 1]
    default = inverse_temperatures(SALAKHUTDINOV_MURRAY)
    assert len(default) == 14_501
    assert default[500] == 0.5
    for wrong in ([(2, 0.5)], [(2, 0.5), (2, 0.4), (2, 1.0)], [(0, 1.0)], [(3, 1.5)]):
        with pytest.raises(UserError, match="schedule="):
            inverse_temperatures(wrong)


@pytest.mark.parametrize("scale", [0.1, 5.0, 60.0, 1000.0])
def test_what_softplus_rises_by(scale: float) -> None:
    # At 60 units are beyond float32's σ, at 1000 the product of quotients is too.
    g = torch.Generator().manual_seed(0)
    was_SH = torch.randn(50, 30, generator=g) * scale
    is_SH = was_SH + torch.randn(50, 30, generator=g) * scale / 10
    exact_S = (F.softplus(-is_SH.double()) - F.softplus(-was_SH.double())).sum(-1)
    found_S = ais._fall(was_SH.clone(), is_SH.clone())
    torch.testing.assert_close(found_S, exact_S, rtol=1e-5, atol=1e-5)
