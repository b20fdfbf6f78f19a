"""Particles of a message model: new notes between given ones, by sequential Monte Carlo.

The messages of a piece have one order: by time, releases before onsets, low before high notes. So a
set of notes is one stream of messages. A particle reads the given messages in this order and may
insert messages of new notes between them: onsets of silent pitches in the block, and releases of
its own notes. Before each message it decides between

- the next given message f, with probability p(f);
- a message of its own. Its note is drawn among the possible ones, which have probability p_n in
  all; its velocity, 0 for a release, among those with p_v; its time among those that keep the
  order, with p_t given the note and the velocity drawn.

It takes f with probability p(f) / Λ, Λ = p(f) + p_n p_v p_t, and its weight is multiplied by Λ in
both cases. This is exact: if f is taken, the note and the velocity that were drawn are auxiliary
variables, whose distribution is the same in the target and in the proposal.

Particles are at different places of the piece, so they are compared, and resampled, at given
messages that all of them have passed, with the weights that they had there.

Suffixes: B particles, P notes, V classes of time, F fields of a message, J given messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from musegen.models.layers.particle_gibbs import effective_number
from musegen.models.message_reader import EVENTS, RELEASE_FIRST, Cursor, Reader

SAME_TIME = 1e-6
"""Times that differ by less are equal, in the codec's unit."""
MAX_STEPS = 10_000
NEVER = 1e12
"""The time of what does not come."""


class Block(NamedTuple):
    """What a particle may write: onsets from `start` to `end`, releases up to `limit`.

    `low_A` and `high_A` are the lowest and highest notes (classes) from each time at_A on.
    """

    start: float
    end: float
    limit: float
    at_A: np.ndarray
    low_A: np.ndarray
    high_A: np.ndarray


class Forced(NamedTuple):
    """The next given message of each particle; at the limit, the release of its own note."""

    time_B: Tensor
    x_BF: Tensor
    key_B: Tensor
    closes_B: Tensor
    exists_B: Tensor


class Own(NamedTuple):
    """A message of its own for each particle, and the log of p_n p_v p_t."""

    x_BF: Tensor
    time_B: Tensor
    log_p_B: Tensor
    ends_B: Tensor
    """log p that the time is not before the block's end, given the note and the velocity."""


class Particles:
    """B particles that write a block, after one cursor and among the given events.

    `before` is the last event before the block. `kept` are the events of the particle 0, if it is
    to write what the block holds now.
    """

    def __init__(
        self,
        reader: Reader,
        cursor: Cursor,
        before: tuple[float, int],
        sounding_P: np.ndarray,
        given: np.ndarray,
        block: Block,
        kept: np.ndarray | None,
        count: int,
        generator: Generator,
    ) -> None:
        device = reader.model.device
        self.reader, self.block, self.generator, self.count = reader, block, generator, count
        end = np.array([(NEVER, 0, 0)], EVENTS)
        given = np.concatenate([given, end])
        self.given_time = torch.from_numpy(given["time"].copy()).to(device)
        self.given_note = torch.from_numpy(given["note"].copy()).to(device)
        self.given_velocity = torch.from_numpy(given["velocity"].copy()).to(device)
        self.given, self.last = given, len(given) - 1
        self.kept, self.kept_next = kept, 0
        grid = reader.model.codec.grid
        self.value_V = torch.from_numpy(grid.values).to(device)
        self.edges = torch.from_numpy(grid.edges).to(device)
        self.limits = tuple(torch.from_numpy(np.asarray(a)).to(device) for a in block[3:])
        self.cursor = cursor.select(torch.zeros(count, dtype=torch.int64, device=device))
        self.time_B = torch.full((count,), before[0], dtype=torch.float64, device=device)
        self.key_B = torch.full((count,), before[1], dtype=torch.int64, device=device)
        self.next_B = torch.zeros(count, dtype=torch.int64, device=device)
        silent = torch.zeros(count, len(sounding_P), dtype=torch.bool, device=device)
        self.own_BP, self.given_BP = silent, silent | torch.from_numpy(sounding_P).to(device)
        self.done_B = torch.zeros(count, dtype=torch.bool, device=device)
        self.log_weight_B = torch.zeros(count, dtype=torch.float64, device=device)
        self.passed_BJ = torch.zeros(count, self.last + 1, dtype=torch.float64, device=device)
        self.compared = 0
        self.written: list[tuple[Tensor, Tensor, Tensor]] = []
        """Time, classes and whether it is the particle's own, of each step's message."""

    # --- One step -----------------------------------------------------------------------------

    def run(self, after_step: Callable[[float], None]) -> None:
        """Write until every particle is behind the block, and all its notes have ended.

        `after_step` gets the time that all particles have reached. A particle that is not behind
        the block after `MAX_STEPS` messages has weight 0.
        """
        for _ in range(MAX_STEPS):
            if bool(self.done_B.all()):
                return
            self.step()
            self._compare()
            after_step(float(self.time_B.min()))
        self.log_weight_B[~self.done_B] = -torch.inf

    def weigh(self, rows: Tensor, first: int, stop: int) -> Tensor:
        """log p of the given messages `first` to `stop` − 1 that these particles have not read."""
        given = self.given[: min(stop, self.last)]
        unread = [given[int(self.next_B[b]) :] for b in rows]
        length = max(map(len, unread))
        x_BLF = np.zeros((len(rows), length, 3), np.int64)
        time_BL, counts_BL = np.zeros((len(rows), length)), np.zeros((len(rows), length))
        for k, (b, events) in enumerate(zip(rows, unread, strict=True)):
            x_BLF[k, : len(events)] = self.reader.classes(events, float(self.time_B[b]))
            time_BL[k, : len(events)] = events["time"]
            counts_BL[k, : len(events)] = np.arange(len(events)) + int(self.next_B[b]) >= first
        device = self.time_B.device
        x, time, counts = (torch.from_numpy(a).to(device) for a in (x_BLF, time_BL, counts_BL))
        log_p_BL, _ = self.reader.read(self.cursor.select(rows), x, time)
        return (log_p_BL * counts).sum(1)

    def step(self) -> None:
        """The next message of every particle."""
        forced = self._forced()
        keeps_own = self._kept_comes_first(forced)
        own = self._own(forced, self._kept_x(keeps_own))
        log_f_B = self._log_forced(forced, own)
        log_weight_B = torch.logaddexp(log_f_B, own.log_p_B)
        uniform_B = self._uniform(self.count)
        takes_B = (uniform_B.log() < log_f_B - log_weight_B) | (own.log_p_B == -torch.inf)
        if self.kept is not None:
            takes_B[0] = not keeps_own
        over_B = self.done_B & ~forced.exists_B
        self.log_weight_B += torch.where(over_B, 0.0, log_weight_B)
        self._write(takes_B, forced, own)
        self.kept_next += keeps_own

    def _forced(self) -> Forced:
        time_B, note_B = self.given_time[self.next_B], self.given_note[self.next_B]
        velocity_B = self.given_velocity[self.next_B]
        key_B = note_B + RELEASE_FIRST * (velocity_B > 0)
        open_B, lowest_B = self.own_BP.max(1)
        limit = self.block.limit
        earlier_B = limit < time_B - SAME_TIME
        same_B = (time_B - limit).abs() <= SAME_TIME
        closes_B = open_B & (earlier_B | (same_B & (lowest_B < key_B)))
        exists_B = closes_B | (self.next_B < self.last)
        time_B = torch.where(closes_B, limit, time_B)
        note_B = torch.where(closes_B, lowest_B, note_B)
        velocity_B = velocity_B.masked_fill(closes_B, 0)
        key_B = torch.where(closes_B, lowest_B, key_B)
        passed_B = torch.where(exists_B, time_B - self.time_B, 0.0).clamp_min(0)
        class_B = torch.bucketize(passed_B, self.edges)
        # As in `TimeGrid.classes`: a time of at least the smallest class never becomes 0.
        class_B = torch.where(
            passed_B >= self.value_V[1] - SAME_TIME, class_B.clamp_min(1), class_B
        )
        x_BF = torch.stack([note_B, velocity_B, class_B], dim=1)
        return Forced(time_B, x_BF, key_B, closes_B, exists_B)

    def _log_forced(self, forced: Forced, own: Own) -> Tensor:
        """log p(f); where nothing is left, log p that the next message is behind the block."""
        fields = self.reader.fields(self.cursor, forced.x_BF)
        log_f_B = _at(fields[0], forced.x_BF[:, 0])
        for f in (1, 2):
            log_f_B = log_f_B + _at(fields[f], forced.x_BF[:, f])
        # A given onset of a note that the particle holds would end it: it has to end before.
        held_B = self.own_BP.gather(1, forced.x_BF[:, :1])[:, 0] & (forced.x_BF[:, 1] > 0)
        log_f_B = log_f_B.masked_fill(held_B, -torch.inf)
        return torch.where(forced.exists_B, log_f_B, own.ends_B)

    # --- A message of its own -----------------------------------------------------------------

    def _own(self, forced: Forced, kept_F: Tensor | None) -> Own:
        note_P = torch.arange(self.own_BP.shape[1], device=self.own_BP.device)
        writes_B1 = (~self.done_B & (self.time_B < self.block.end - SAME_TIME))[:, None]
        low, high = int(self.limits[1].min()), int(self.limits[2].max())
        starts_BP = writes_B1 & ~self.own_BP & ~self.given_BP & (note_P >= low) & (note_P <= high)
        x_BF = torch.zeros(self.count, 3, dtype=torch.int64, device=note_P.device)
        x_BF[:, 0], log_n_B = self._field(x_BF, 0, starts_BP | self.own_BP, kept_F)
        releases_B1 = self.own_BP.gather(1, x_BF[:, :1])
        velocity_V = torch.arange(self.reader.model.spec.sizes[1], device=note_P.device)
        x_BF[:, 1], log_v_B = self._field(x_BF, 1, (velocity_V == 0) == releases_B1, kept_F)
        at_BV = self.time_B[:, None] + self.value_V
        in_order_BV = self._in_order(at_BV, forced, x_BF)
        fields = self.reader.fields(self.cursor, x_BF)
        x_BF[:, 2], log_t_B = self._draw(fields[2], in_order_BV, 2, kept_F)
        before_end_BV = at_BV < self.block.end - SAME_TIME
        ends_B = fields[2].masked_fill(before_end_BV, -torch.inf).logsumexp(1)
        time_B = at_BV.gather(1, x_BF[:, 2:])[:, 0]
        if kept_F is not None:
            assert self.kept is not None
            time_B[0] = float(self.kept["time"][self.kept_next])
        return Own(x_BF, time_B, log_n_B + log_v_B + log_t_B, ends_B)

    def _field(
        self, x_BF: Tensor, f: int, possible: Tensor, kept_F: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return self._draw(self.reader.fields(self.cursor, x_BF)[f], possible, f, kept_F)

    def _draw(
        self, log_p_BV: Tensor, possible_BV: Tensor, f: int, kept_F: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """A possible class of each particle, and log p that a class is possible."""
        log_p_BV = log_p_BV.masked_fill(~possible_BV, -torch.inf)
        noise_BV = torch.empty_like(log_p_BV).exponential_(generator=self.generator)
        drawn_B = (log_p_BV - noise_BV.log()).argmax(1)
        if kept_F is not None:
            drawn_B[0] = kept_F[f]
        return drawn_B, log_p_BV.logsumexp(1)

    def _in_order(self, at_BV: Tensor, forced: Forced, x_BF: Tensor) -> Tensor:
        """Which times are possible for a particle's own message."""
        note_B1, starts_B1 = x_BF[:, :1], x_BF[:, 1:2] > 0
        key_B1 = note_B1 + RELEASE_FIRST * starts_B1
        until_B1 = torch.where(starts_B1, self.block.end, self.block.limit)
        possible_BV = at_BV < until_B1 - SAME_TIME
        here_BV = at_BV < self.time_B[:, None] + SAME_TIME
        possible_BV &= ~here_BV | (key_B1 > self.key_B[:, None])
        given_B1 = forced.time_B[:, None]
        same_BV = (at_BV - given_B1).abs() <= SAME_TIME
        possible_BV &= (at_BV < given_B1 - SAME_TIME) | (same_BV & (key_B1 < forced.key_B[:, None]))
        at_A, low_A, high_A = self.limits
        part_BV = (torch.searchsorted(at_A, at_BV + SAME_TIME, right=True) - 1).clamp_min(0)
        within_BV = (note_B1 >= low_A[part_BV]) & (note_B1 <= high_A[part_BV])
        started_BV = at_BV > self.block.start - SAME_TIME
        return possible_BV & (~starts_B1 | (within_BV & started_BV))

    # --- What particle 0 keeps ----------------------------------------------------------------

    def _kept_comes_first(self, forced: Forced) -> bool:
        """Whether the next message of particle 0 is one of those that it keeps."""
        if self.kept is None or self.kept_next == len(self.kept):
            return False
        event = self.kept[self.kept_next]
        key = int(event["note"]) + RELEASE_FIRST * bool(event["velocity"] > 0)
        later = float(forced.time_B[0]) - float(event["time"])
        return later > SAME_TIME or (abs(later) <= SAME_TIME and key < int(forced.key_B[0]))

    def _kept_x(self, keeps_own: bool) -> Tensor | None:
        if not keeps_own:
            return None
        assert self.kept is not None
        event = self.kept[self.kept_next]
        passed = torch.tensor(max(0.0, float(event["time"]) - float(self.time_B[0])))
        time = int(torch.bucketize(passed.double(), self.edges.cpu()))
        if passed >= float(self.value_V[1]) - SAME_TIME:
            time = max(time, 1)
        return torch.tensor([int(event["note"]), int(event["velocity"]), time])

    # --- After the decision -------------------------------------------------------------------

    def _write(self, takes_B: Tensor, forced: Forced, own: Own) -> None:
        stops_B = takes_B & ~forced.exists_B
        x_BF = torch.where(takes_B[:, None], forced.x_BF, own.x_BF)
        time_B = torch.where(takes_B, forced.time_B, own.time_B)
        time_B = torch.where(stops_B, self.time_B, time_B)
        given_B = takes_B & ~forced.closes_B & ~stops_B
        note_B1, starts_B1 = x_BF[:, :1], x_BF[:, 1:2] > 0
        is_own_B = ~given_B & ~stops_B
        own_BP = self.own_BP.scatter(1, note_B1, starts_B1)
        given_BP = self.given_BP.scatter(1, note_B1, starts_B1)
        self.own_BP = torch.where(is_own_B[:, None], own_BP, self.own_BP)
        self.given_BP = torch.where(given_B[:, None], given_BP, self.given_BP)
        self.key_B = x_BF[:, 0] + RELEASE_FIRST * starts_B1[:, 0]
        self.time_B = time_B
        self.next_B = self.next_B + given_B
        row_B = torch.arange(self.count, device=time_B.device)
        self.passed_BJ[row_B[given_B], self.next_B[given_B]] = self.log_weight_B[given_B]
        behind_B = (time_B >= self.block.end - SAME_TIME) & ~self.own_BP.any(1)
        self.done_B = self.done_B | behind_B | stops_B
        self.written.append((time_B, x_BF, is_own_B))
        self.cursor = self.reader.step(self.cursor, x_BF, time_B)

    def _compare(self) -> None:
        """Resample at the last given message that all particles have passed."""
        common = int(self.next_B.min())
        if common <= self.compared:
            return
        self.compared = common
        log_weight_B = self.passed_BJ[:, common]
        if bool((log_weight_B == -torch.inf).all()):
            return
        if float(effective_number(log_weight_B[None])) < self.count / 2:
            chosen_B = self._choose(log_weight_B, self.count)
            if self.kept is not None:
                chosen_B[0] = 0
            self.log_weight_B -= log_weight_B
            self.passed_BJ -= log_weight_B[:, None]
            self._select(chosen_B)

    def choose(self) -> int:
        """A particle, in proportion to the weights."""
        return int(self._choose(self.log_weight_B, 1))

    def _choose(self, log_weight_B: Tensor, count: int) -> Tensor:
        return log_weight_B.softmax(0).multinomial(count, True, generator=self.generator)

    def _select(self, row_B: Tensor) -> None:
        for name in ("time_B", "key_B", "next_B", "own_BP", "given_BP", "done_B", "log_weight_B",
                     "passed_BJ"):  # fmt: skip
            setattr(self, name, getattr(self, name)[row_B])
        self.cursor = self.cursor.select(row_B)
        self.written = [(t[row_B], x[row_B], own[row_B]) for t, x, own in self.written]

    def _uniform(self, count: int) -> Tensor:
        return torch.rand(
            count, generator=self.generator, device=self.time_B.device, dtype=torch.float64
        )

    # --- Results ------------------------------------------------------------------------------

    def events(self, particle: int) -> np.ndarray:
        """The particle's own messages."""
        own = [
            (float(time_B[particle]), int(x_BF[particle, 0]), int(x_BF[particle, 1]))
            for time_B, x_BF, is_own_B in self.written
            if bool(is_own_B[particle])
        ]
        return np.array(own, EVENTS)


def _at(log_p_BV: Tensor, class_B: Tensor) -> Tensor:
    return log_p_BV.gather(1, class_B[:, None])[:, 0]
