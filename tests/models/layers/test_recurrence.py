"""The recurrent networks against their equations, one step at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from musegen.models.layers.recurrence import Recurrence, TanhSteps

D, R = 3, 4


def random_recurrence(cell: str, learn_initial_state: bool = False) -> Recurrence:
    torch.manual_seed(0)
    recurrence = Recurrence(cell, D, R, 0.5, learn_initial_state).double()
    if learn_initial_state:
        torch.nn.init.normal_(recurrence.initial_SR)
    return recurrence


X_BTD = (torch.rand(2, 5, D, generator=torch.Generator().manual_seed(1)) < 0.5).double()


def test_the_tanh_cell_has_the_equation_of_the_paper() -> None:
    recurrence = random_recurrence("tanh")
    cell = recurrence.cell
    torch.nn.init.normal_(cell.b_u)
    u_BR = torch.zeros(2, R, dtype=torch.float64)
    expected = [u_BR]
    for t in range(4):
        u_BR = torch.tanh(cell.b_u + X_BTD[:, t] @ cell.W_vu + u_BR @ cell.W_uu)
        expected.append(u_BR)
    torch.testing.assert_close(recurrence.states_before(X_BTD), torch.stack(expected, dim=1))


def test_the_backward_pass_of_tanh_steps_is_the_gradient() -> None:
    g = torch.Generator().manual_seed(2)
    inputs = [
        torch.randn(*size, generator=g, dtype=torch.float64, requires_grad=True)
        for size in ((2, 5, R), (R, R), (2, R))
    ]
    assert torch.autograd.gradcheck(TanhSteps.apply, inputs)


def test_torch_compile_does_not_write_out_the_steps() -> None:
    recurrence, operations = random_recurrence("tanh"), []

    def record(graph: torch.fx.GraphModule, _: list) -> Callable:
        parts = [part for part in graph.modules() if isinstance(part, torch.fx.GraphModule)]
        operations.extend(len(part.graph.nodes) for part in parts)
        return graph.forward

    x_BTD = torch.rand(2, 60, D, dtype=torch.float64)
    compiled = torch.compile(lambda x_BTD: recurrence.states_before(x_BTD).exp(), backend=record)
    torch.testing.assert_close(compiled(x_BTD), recurrence.states_before(x_BTD).exp())
    assert 0 < sum(operations) < 60


@pytest.mark.parametrize("cell", ["tanh", "lstm", "gru"])
def test_a_sequence_can_be_continued_from_a_state(cell: str) -> None:
    recurrence = random_recurrence(cell, learn_initial_state=True)
    whole_BTR, end = recurrence(X_BTD, recurrence.start(2))
    first_BTR, between = recurrence(X_BTD[:, :2], recurrence.start(2))
    second_BTR, last = recurrence(X_BTD[:, 2:], between)
    torch.testing.assert_close(torch.cat([first_BTR[:, :-1], second_BTR], dim=1), whole_BTR)
    torch.testing.assert_close(last, end)
    torch.testing.assert_close(end[0], whole_BTR[:, -1])
    torch.testing.assert_close(recurrence.states_before(X_BTD), whole_BTR[:, :-1])
    torch.testing.assert_close(whole_BTR[:, 0], recurrence.initial_SR[0].expand(2, -1))


@pytest.mark.parametrize("cell", ["tanh", "lstm", "gru"])
@pytest.mark.parametrize("learn_initial_state", [False, True])
def test_the_initial_state_is_zero_or_learned(cell: str, learn_initial_state: bool) -> None:
    recurrence = Recurrence(cell, D, R, 0.5, learn_initial_state).double()
    assert not recurrence.initial_SR.any()
    recurrence.states_before(X_BTD).square().sum().backward()
    recurrence.states_before(X_BTD).sum().backward()
    grad_SR = recurrence.initial_SR.grad
    assert (grad_SR is not None and bool(grad_SR.abs().min() > 0)) is learn_initial_state
