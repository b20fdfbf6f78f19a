"""Particle Gibbs for frames: some notes of a piece are sampled given all others, past and future.

The target is π(x_F) ∝ p(x), p the model of the whole piece, x_F its free notes. A sweep goes from
left to right over blocks of frames, and updates one block after another given everything else, by
conditional sequential Monte Carlo (Andrieu, Doucet & Holenstein, "Particle Markov chain Monte
Carlo methods", JRSS B 2010):

1. P particles continue the frames before the block. The first one keeps what the block holds now;
   in each frame the others draw their free notes from the model, note after note, with the other
   notes of the frame clamped. A particle's weight is the probability of the clamped notes.
2. If the weights differ much, particles are resampled; the first one stays.
3. After the block each weight is multiplied by the probability of the next `near` frames, and one
   particle is chosen in proportion to the weights.
4. The probability of the frames after these, up to `far` frames after the block, is computed for
   the chosen particle and the first one only. The chosen one replaces the first with probability
   min(1, p(later frames | chosen) / p(later frames | first)): delayed acceptance (Christen & Fox,
   "Markov chain Monte Carlo using an approximation", JCGS 2005). It is exact since steps 1 to 3
   are reversible for the target without these frames (Chopin & Singh, "On particle Gibbs
   sampling", Bernoulli 2015).

If a block has at most `far` frames after it, its update leaves π invariant, whatever the number of
particles; otherwise it neglects the influence on the frames after these. Blocks shorten from sweep
to sweep (compare the annealed blocked Gibbs of Coconet, Huang et al. 2017): long ones choose the
plan, short ones correct it.

Suffixes: N pieces side by side, P particles of each, M = N·P, T frames of a piece, D pitches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from musegen.models.layers.frame_sampler import FrameSampler, Given


class Effort(NamedTuple):
    """How much is computed: particles, and the frames after a block that weigh them."""

    particles: int
    near: int
    far: int


class Block(NamedTuple):
    """The frames `first` to `stop` − 1; `fresh` if no particle keeps what they hold now."""

    first: int
    stop: int
    fresh: bool = False


def schedule(first: int, stop: int, sweeps: int, generator: Generator) -> Iterator[list[Block]]:
    """The blocks of the first pass, a single one, and of each sweep.

    The lengths in the sweeps are `BLOCK_LENGTHS`, over and over; the first block of a sweep has a
    random length up to that, so that the borders differ from sweep to sweep.
    """
    yield [Block(first, stop, fresh=True)]
    for sweep in range(sweeps):
        length = BLOCK_LENGTHS[sweep % len(BLOCK_LENGTHS)]
        shift = int(torch.randint(length, (), generator=generator, device=generator.device))
        yield _blocks(first, stop, length - shift, length)


BLOCK_LENGTHS = (8, 4, 2)
"""Of the sweeps, in frames."""


def _blocks(first: int, stop: int, head: int, length: int) -> list[Block]:
    borders = [first, *range(first + head, stop, length), stop]
    return [Block(a, b) for a, b in pairwise(borders)]


class ParticleGibbs:
    """Rewrites blocks of N pieces x_NTD; `free_TD` says which notes may change."""

    def __init__(
        self, x_NTD: Tensor, free_TD: Tensor, effort: Effort, generator: Generator
    ) -> None:
        self.x_NTD, self.free_TD = x_NTD, free_TD
        self.effort, self.generator = effort, generator

    def sweep(
        self, start: FrameSampler, blocks: list[Block], after_frame: Callable[[], None]
    ) -> None:
        """Rewrite the blocks, which follow each other. `start`, of one sequence, is before them."""
        row_N = torch.zeros(len(self.x_NTD), dtype=torch.int64, device=self.x_NTD.device)
        sampler = start.fork(row_N)
        for block in blocks:
            sampler = self.rewrite(sampler, block, after_frame)
            self.x_NTD[:, block.first : block.stop] = sampler.x_NTD[:, block.first : block.stop]

    def rewrite(
        self, before: FrameSampler, block: Block, after_frame: Callable[[], None]
    ) -> FrameSampler:
        """A sampler after the block, whose frames are the new ones."""
        sampler, log_weight_NP = self._particles(before, block, after_frame)
        width = self.effort.particles
        near = slice(block.stop, block.stop + self.effort.near)
        if self.x_NTD[:, near].shape[1]:
            near_MFD = self.x_NTD[:, near].repeat_interleave(width, 0)
            log_weight_NP += sampler.log_prob(near_MFD).double().sum(1).unflatten(0, (-1, width))
        chosen_N = self._draw(log_weight_NP, 1)[:, 0]
        if not block.fresh:
            chosen_N = self._accepted(sampler, chosen_N, block.stop)
        return sampler.fork(self._rows(chosen_N[:, None]))

    def _particles(
        self, before: FrameSampler, block: Block, after_frame: Callable[[], None]
    ) -> tuple[FrameSampler, Tensor]:
        """The particles after the block, and their log weights, (N, P)."""
        pieces, width = len(self.x_NTD), self.effort.particles
        row_NP = torch.arange(pieces, device=self.x_NTD.device)[:, None].expand(-1, width)
        sampler = before.fork(row_NP.flatten())
        log_weight_NP = torch.zeros(pieces, width, dtype=torch.float64, device=self.x_NTD.device)
        for t in range(block.first, block.stop):
            now_MD = self.x_NTD[:, t].repeat_interleave(width, 0)
            clamped_MD = ~self.free_TD[t].expand_as(now_MD)
            known_MD = clamped_MD.clone()
            if not block.fresh:
                known_MD[::width] = True
            frame_MD, gain_M = sampler.draw(Given(now_MD, known_MD, clamped_MD))
            assert gain_M is not None
            sampler.append(frame_MD)
            log_weight_NP += gain_M.double().unflatten(0, (pieces, width))
            if t + 1 < block.stop:
                log_weight_NP = self._resample(sampler, log_weight_NP, block.fresh)
            after_frame()
        return sampler, log_weight_NP

    def _resample(self, sampler: FrameSampler, log_weight_NP: Tensor, fresh: bool) -> Tensor:
        """Resample the particles of the pieces with unequal weights; their new log weights."""
        uneven_N1 = effective_number(log_weight_NP)[:, None] < self.effort.particles / 2
        if not bool(uneven_N1.any()):
            return log_weight_NP
        own_NP = torch.arange(self.effort.particles, device=log_weight_NP.device)
        chosen_NP = self._draw(log_weight_NP, self.effort.particles)
        if not fresh:
            chosen_NP[:, 0] = 0
        sampler.select(self._rows(torch.where(uneven_N1, chosen_NP, own_NP)))
        return torch.where(uneven_N1, 0.0, log_weight_NP)

    def _accepted(self, sampler: FrameSampler, chosen_N: Tensor, stop: int) -> Tensor:
        """The chosen particles where the later frames accept them, otherwise the first ones."""
        later_NFD = self.x_NTD[:, stop : stop + self.effort.far]
        near = self.effort.near
        if later_NFD.shape[1] <= near or not bool(chosen_N.any()):
            return chosen_N
        pair_N2 = torch.stack([torch.zeros_like(chosen_N), chosen_N], dim=1)
        pair = sampler.fork(self._rows(pair_N2))
        log_prob_MF = pair.log_prob(later_NFD.repeat_interleave(2, 0)).double()
        first_N, other_N = log_prob_MF[:, near:].sum(1).unflatten(0, (-1, 2)).unbind(1)
        uniform_N = torch.rand(len(chosen_N), generator=self.generator, device=chosen_N.device)
        return torch.where(uniform_N.log() < other_N - first_N, chosen_N, 0)

    def _draw(self, log_weight_NP: Tensor, count: int) -> Tensor:
        weight_NP = log_weight_NP.softmax(1)
        return weight_NP.multinomial(count, replacement=True, generator=self.generator)

    def _rows(self, particle_NK: Tensor) -> Tensor:
        """The rows of the sampler with these particles of each piece."""
        first_N1 = torch.arange(len(particle_NK), device=particle_NK.device)[:, None]
        return (first_N1 * self.effort.particles + particle_NK).flatten()


def effective_number(log_weight_NP: Tensor) -> Tensor:
    """(Σw)² / Σw² of each row, from 1 to P."""
    return 1 / log_weight_NP.softmax(1).square().sum(1)
