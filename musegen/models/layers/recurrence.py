"""Recurrent networks over frames: u(t) from v(t) and the state before it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

Cell = Literal["tanh", "lstm", "gru"]
State = tuple[Tensor, ...]
"""The state of a recurrent network, tensors (B, R); the first is u."""


class TanhSteps(torch.autograd.Function):
    """u(t) = tanh(a(t) + u(t−1) W_uu) from u(0), with the input's contribution a(t).

    `nn.RNN` records several autograd operations per step. Here a step is one product and one tanh,
    and as few operations in the backward pass: a quarter of the time for one sequence of 100 steps
    and 100 units.
    """

    @staticmethod
    def forward(ctx: Any, a_BTR: Tensor, W_uu: Tensor, u_BR: Tensor) -> Tensor:
        """u(0), …, u(T) as (B, T + 1, R)."""
        u_TBR = torch.cat([u_BR[None], a_BTR.transpose(0, 1)])
        u = u_TBR.unbind(0)
        for previous, current in pairwise(u):
            current.addmm_(previous, W_uu).tanh_()
        ctx.save_for_backward(u_TBR, W_uu)
        return u_TBR.transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u_TBR, W_uu = ctx.saved_tensors
        # d(t) = ∂loss/∂(a(t) + u(t−1) W_uu), from the last step to the first; d(0) = ∂loss/∂u(0).
        d_TBR = grads[0].transpose(0, 1).clone(memory_format=torch.contiguous_format)
        tanh_grad_TBR = 1 - u_TBR.square()
        tanh_grad_TBR[0] = 1
        d, tanh_grad, W_t = d_TBR.unbind(0), tanh_grad_TBR.unbind(0), W_uu.t()
        d[-1].mul_(tanh_grad[-1])
        for (later, current), factor in zip(pairwise(reversed(d)), tanh_grad[-2::-1], strict=True):
            current.addmm_(later, W_t).mul_(factor)
        grad_W = u_TBR[:-1].flatten(0, 1).t() @ d_TBR[1:].flatten(0, 1)
        return d_TBR[1:].transpose(0, 1), grad_W, d_TBR[0]


class TanhNet(nn.Module):
    """u(t) = tanh(b_u + v(t) W_vu + u(t−1) W_uu); initial matrices from N(0, std²)."""

    def __init__(self, visible: int, recurrent: int, std: float) -> None:
        super().__init__()
        self.W_vu = nn.Parameter(torch.randn(visible, recurrent) * std)
        self.W_uu = nn.Parameter(torch.randn(recurrent, recurrent) * std)
        self.b_u = nn.Parameter(torch.zeros(recurrent))

    # torch.compile would write out every step, for minutes and for each length of the batches.
    @torch.compiler.disable
    def forward(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        a_NR = torch.addmm(self.b_u, x_BTD.flatten(0, 1), self.W_vu)
        u_BTR = TanhSteps.apply(a_NR.unflatten(0, x_BTD.shape[:2]), self.W_uu, state[0])
        return u_BTR, (u_BTR[:, -1],)


class GatedNet(nn.Module):
    """One layer of `nn.LSTM` or `nn.GRU` with torch's initial weights."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], visible: int, recurrent: int) -> None:
        super().__init__()
        self.net = kind(visible, recurrent, batch_first=True)

    def forward(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        initial = tuple(s[None] for s in state)
        u_BTR, last = self.net(x_BTD, initial if len(initial) > 1 else initial[0])
        last = last if isinstance(last, tuple) else (last,)
        return torch.cat([state[0][:, None], u_BTR], dim=1), tuple(s[0] for s in last)


class Recurrence(nn.Module):
    """A recurrent network with one of three cells; its initial state is 0 or learned.

    Called with frames x_BTD and a state, it returns u(0) … u(T) as (B, T + 1, R) and the state
    after the last frame.
    """

    def __init__(
        self, cell: Cell, visible: int, recurrent: int, std: float, learn_initial_state: bool
    ) -> None:
        super().__init__()
        self.cell: nn.Module
        if cell == "tanh":
            self.cell = TanhNet(visible, recurrent, std)
        else:
            self.cell = GatedNet(nn.LSTM if cell == "lstm" else nn.GRU, visible, recurrent)
        initial_SR = torch.zeros(2 if cell == "lstm" else 1, recurrent)
        self.initial_SR = nn.Parameter(initial_SR, requires_grad=learn_initial_state)

    def start(self, batch_size: int) -> State:
        """The state before the first frame, for each sequence of a batch."""
        return tuple(s.expand(batch_size, -1).contiguous() for s in self.initial_SR)

    def forward(self, x_BTD: Tensor, state: State) -> tuple[Tensor, State]:
        return self.cell(x_BTD, state)

    def states_before(self, x_BTD: Tensor) -> Tensor:
        """u(0) … u(T − 1), the state before each frame, (B, T, R)."""
        u_BTR, _ = self(x_BTD, self.start(len(x_BTD)))
        return u_BTR[:, :-1]
