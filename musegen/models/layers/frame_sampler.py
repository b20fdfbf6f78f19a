"""Samplers of the frames of piano-rolls, one frame after another, in N sequences side by side."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import NamedTuple, Self

from torch import Generator, Tensor

from musegen.errors import UserError


class Given(NamedTuple):
    """Notes of a frame that are known before it is drawn.

    - x_ND: frames with these notes.
    - known_ND: which notes are known; the others are drawn.
    - weighed_ND: which of the known notes are evidence: their log p is the draw's log weight.
    """

    x_ND: Tensor
    known_ND: Tensor
    weighed_ND: Tensor


class FrameSampler(ABC):
    """Samples the frames of N sequences of at most T frames, one frame after another.

    x_NTD holds the frames so far, `t` is their number.
    """

    x_NTD: Tensor
    t: int
    generator: Generator

    @abstractmethod
    def draw(self, given: Given | None = None) -> tuple[Tensor, Tensor | None]:
        """A sample of frame t of each sequence, (N, D), and its log probability, (N), if known.

        With `given` only the other notes are drawn, and the result is the frame and its log
        weight, (N): log p of the notes that are weighed, each given the past and what the model
        takes into account before it. Drawn frames with these weights represent the distribution of
        a frame given those notes.
        """

    def longest_match(self) -> tuple[Tensor, Tensor] | None:
        """The level of the longest match of each sequence, (N,), and the frame that followed it,
        (N, D); None if the model does not search for it."""
        return None

    @abstractmethod
    def append(self, frame_ND: Tensor) -> None:
        """Make these frames the frames t, and advance t."""

    @abstractmethod
    def select(self, row_N: Tensor) -> None:
        """Let sequence n continue what was sequence row_N[n]. N may change."""

    def fork(self, row_N: Tensor) -> Self:
        """A sampler that continues these sequences; this one does not change."""
        fork = copy.copy(self)
        fork.select(row_N)
        return fork

    def log_prob(self, x_NFD: Tensor) -> Tensor:
        """log p of F frames after the frames so far, each given all before it, (N, F), in nats."""
        raise UserError("this model cannot rewrite a region: its FrameSampler has no log_prob")
