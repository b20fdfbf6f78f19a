"""Strings of a formal language, generated and never stored: 0ⁿ1ⁿ and its siblings."""

from __future__ import annotations

from typing import Literal

import numpy as np

from datamodules.base import SPLITS
from datamodules.char_data import CharDataModule
from musegen.codecs.chars import CharCodec
from musegen.codecs.grammars import GRAMMARS
from musegen.errors import UserError
from musegen.specs import Tokens

COURSE_WEIGHTS = (10.0, 6.0, 4.0, 3.0, 1.0)
"""Chances of n = 1, 2, 3, 4 and of every greater n: many small n, a few large."""


class GrammarStrings(CharDataModule):
    """Strings start 0ⁿ1ⁿ end, n drawn from the course's skewed distribution.

    - grammar: `anbn`, `anbncn`, `dyck1` or `dyck2`; n counts the symbols of a block, or the
      pairs of brackets.
    - n_max: training strings have n ≤ n_max; weights: probabilities of n = 1, 2, …, the last one for
      all greater n.
    - train_size: training strings. val_n, test_n: validation and test have every n of these
      ranges, ends included, `copies` times (brackets have many strings of one size).
    - curriculum: the largest n is `first_n` at first and grows to n_max until epoch `curriculum`;
      0 takes all n from the beginning. An epoch draws as many strings as ever, from those that
      are short enough.
    - count_to: how far evaluation looks for the capacity.
    """

    yields = (Tokens,)
    pool = 1  # a batch of one n only would teach its length and nothing of the others

    def __init__(
        self,
        grammar: Literal["anbn", "anbncn", "dyck1", "dyck2"] = "anbn",
        n_max: int = 20,
        weights: tuple[float, ...] = COURSE_WEIGHTS,
        train_size: int = 2000,
        val_n: tuple[int, int] = (1, 30),
        test_n: tuple[int, int] = (1, 100),
        copies: int = 1,
        curriculum: int = 0,
        first_n: int = 4,
        count_to: int = 1000,
        batch_size: int = 32,
        codec: CharCodec | None = None,
        seed: int = 1,
        num_workers: int = 0,
    ) -> None:
        own = CharCodec(GRAMMARS[grammar].symbols, unknown=False)
        super().__init__(codec or own, batch_size, seed, num_workers)
        if min(n_max, train_size, copies, first_n, count_to) < 1 or curriculum < 0:
            raise UserError(
                f"data: n_max={n_max}, train_size={train_size}, copies={copies}, first_n={first_n} "
                f"and count_to={count_to} must be at least 1, curriculum={curriculum} not negative"
            )
        if not weights or min(weights) < 0 or sum(weights[:n_max]) <= 0:
            raise UserError(
                f"data.weights={list(weights)}: probabilities ≥ 0, one at least above 0"
            )
        for key, (low, high) in (("val_n", val_n), ("test_n", test_n)):
            if not 1 <= low <= high:
                raise UserError(f"data.{key}={[low, high]}: need 1 ≤ first ≤ last")
        self.grammar = GRAMMARS[grammar]
        self.n_max, self.train_size, self.copies = n_max, train_size, copies
        self.curriculum, self.first_n = curriculum, first_n
        self.weights, self.ranges, self.count_to = weights, {"val": val_n, "test": test_n}, count_to

    def setup(self, stage: str | None = None) -> None:
        if self.texts:
            return
        chance = np.array([self.weights[min(i, len(self.weights) - 1)] for i in range(self.n_max)])
        rng = np.random.default_rng([self.seed, 0])
        sizes = 1 + rng.choice(self.n_max, self.train_size, p=chance / chance.sum())
        self.texts["train"] = [self.grammar.drawn(int(n), rng) for n in sizes]
        self.sizes = sizes
        for split, (low, high) in self.ranges.items():
            rng = np.random.default_rng([self.seed, SPLITS.index(split)])
            wanted = np.repeat(np.arange(low, high + 1), self.copies)
            self.texts[split] = [self.grammar.drawn(int(n), rng) for n in wanted]

    def probabilities(self, epoch: int) -> np.ndarray | None:
        if epoch >= self.curriculum:
            return None
        most = self.first_n + (self.n_max - self.first_n) * epoch // self.curriculum
        short = self.sizes <= max(most, int(self.sizes.min()))
        return short / short.sum()
