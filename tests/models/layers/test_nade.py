"""NADE against its equations, unit by unit, and against enumeration of all frames."""

from __future__ import annotations

import pytest
import torch
from exact_rbm import states
from torch import Tensor

from musegen.models.layers.nade import NADE

D, H = 5, 4


def nade(visible: int = D, hidden: int = H, std: float = 0.8, intervals: bool = True) -> NADE:
    torch.manual_seed(1)
    model = NADE(visible, hidden, intervals)
    for W in model.parameters():
        torch.nn.init.normal_(W, std=std)
    return model


def biases(rows: int, visible: int = D, hidden: int = H) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return (
        torch.randn(rows, visible, generator=generator),
        torch.randn(rows, hidden, generator=generator),
    )


def frames(rows: int, visible: int, fraction: float, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(rows, visible, generator=generator) < fraction).float()


@pytest.mark.parametrize("intervals", [False, True])
def test_each_unit_has_the_papers_conditional(intervals: bool) -> None:
    model, v_ND = nade(intervals=intervals), frames(6, D, 0.5)
    b_v_ND, b_h_NH = biases(6)
    for n, v_D in enumerate(v_ND):
        log_p, a_H = torch.zeros(()), b_h_NH[n]
        for d in range(D):
            logit = b_v_ND[n, d] + a_H.sigmoid() @ model.V_HD[:, d]
            for c in range(d) if intervals else ():
                logit = logit + v_D[c] * model.w_I[d - c - 1]
            p = logit.sigmoid()
            log_p = log_p + (p if v_D[d] else 1 - p).log()
            a_H = a_H + v_D[d] * model.W_DH[d]
        torch.testing.assert_close(model.log_prob(v_ND, b_v_ND, b_h_NH)[n], log_p)


def test_probabilities_of_all_frames_sum_to_1() -> None:
    b_v_ND, b_h_NH = (b.expand(2**D, -1) for b in biases(1))
    log_p_N = nade().log_prob(states(D).float(), b_v_ND, b_h_NH)
    assert log_p_N.exp().sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("fraction", [0.0, 0.05, 0.5, 1.0])
def test_sparse_equals_dense_in_value_and_gradient(fraction: float) -> None:
    model, v_ND = nade(88, 30, 0.3), frames(40, 88, fraction)
    b_v_ND, b_h_NH = (b.requires_grad_() for b in biases(40, 88, 30))
    weight_ND = torch.randn(40, 88, generator=torch.Generator().manual_seed(3))
    found = []
    for logits in (model.sparse_logits, model.dense_logits):
        logit_ND = logits(v_ND, b_v_ND, b_h_NH)
        loss = (logit_ND * weight_ND).sum() / 40
        grads = torch.autograd.grad(loss, [*model.parameters(), b_v_ND, b_h_NH])
        found.append([logit_ND, *grads])
    for sparse, dense in zip(*found, strict=True):
        torch.testing.assert_close(sparse, dense, atol=1e-5, rtol=1e-5)


def test_a_unit_does_not_depend_on_later_units() -> None:
    model, v_ND = nade(), frames(1, D, 0.5)
    for d in range(D):
        other_ND = v_ND.clone()
        other_ND[:, d:] = 1 - other_ND[:, d:]
        both = [model.sparse_logits(v, *biases(1)) for v in (v_ND, other_ND)]
        torch.testing.assert_close(both[0][:, : d + 1], both[1][:, : d + 1])
        if d < D - 1:
            assert not torch.allclose(both[0][:, d + 1 :], both[1][:, d + 1 :])


def test_samples_follow_the_distribution() -> None:
    model, n = nade(), 40_000
    b_v_ND, b_h_NH = (b.expand(n, -1) for b in biases(1))
    v_ND, log_p_N = model.sample(b_v_ND, b_h_NH, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(log_p_N, model.log_prob(v_ND, b_v_ND, b_h_NH).detach())
    p_S = model.log_prob(states(D).float(), b_v_ND[: 2**D], b_h_NH[: 2**D]).exp().detach()
    weights_D = 2 ** torch.arange(D).flip(0)
    code_S = states(D).long() @ weights_D
    fraction_S = (torch.bincount(v_ND.long() @ weights_D, minlength=2**D) / n)[code_S]
    assert bool(((fraction_S - p_S).abs() < 5 * (p_S * (1 - p_S) / n).sqrt() + 1e-6).all())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_sample_equals_sampling_unit_by_unit(temperature: float) -> None:
    model, rows = nade(88, 30, 0.5, intervals=False), 20
    b_v_ND, b_h_NH = biases(rows, 88, 30)
    b_v_ND -= 2
    v_ND, log_p_N = model.sample(b_v_ND, b_h_NH, temperature, torch.Generator().manual_seed(4))
    uniform_ND = torch.rand(rows, 88, generator=torch.Generator().manual_seed(4))
    expected_ND, expected_log_p_N, a_NH = torch.zeros(rows, 88), torch.zeros(rows), b_h_NH
    for d in range(88):
        p_N = ((b_v_ND[:, d] + a_NH.sigmoid() @ model.V_HD[:, d]) / temperature).sigmoid()
        on_N = (uniform_ND[:, d] < p_N).float()
        expected_ND[:, d] = on_N
        expected_log_p_N += torch.where(on_N > 0, p_N, 1 - p_N).log()
        a_NH = a_NH + on_N[:, None] * model.W_DH[d]
    assert torch.equal(v_ND, expected_ND)
    torch.testing.assert_close(log_p_N, expected_log_p_N.detach(), atol=1e-4, rtol=1e-4)
    assert v_ND.sum(1).max() > 3


def test_sampling_uses_only_the_generator() -> None:
    model, before = nade(), torch.get_rng_state()
    samples = [
        model.sample(*biases(50), generator=torch.Generator().manual_seed(s))[0] for s in (1, 1, 2)
    ]
    assert torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0], samples[2])
    assert torch.equal(before, torch.get_rng_state())
