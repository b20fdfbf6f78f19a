"""Strings of a formal language, such as 0ⁿ1ⁿ. They are generated and not stored."""

from __future__ import annotations

from typing import Literal

import numpy as np

from datamodules.base import SPLITS
from datamodules.char_data import CharDataModule
from musegen.codecs.chars import CharCodec
from musegen.codecs.grammars import GRAMMARS
from musegen.constraints import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
    Seed,
    check_arguments,
)
from musegen.errors import UserError
from musegen.runtime.random_streams import Stream, random_stream
from musegen.specs import Tokens

COURSE_WEIGHTS = (10.0, 6.0, 4.0, 3.0, 1.0)
"""The weights of n = 1, 2, 3, 4 and of each n above 4: many strings are short, few are long."""


class GrammarStrings(CharDataModule):
    """Strings such as 0ⁿ1ⁿ, with n drawn at random for training.

    - grammar: `anbn`, `anbncn`, `dyck1` or `dyck2`. n is the length of a block, or the number of
      pairs of brackets.
    - n_max: training strings have n ≤ n_max.
    - weights: the probability of n = 1, 2, … is proportional to these. The last weight is that of
      all greater n.
    - train_size: the number of training strings.
    - val_n, test_n: validation and test have every n from the first to the last of this range.
    - copies: how many strings validation and test have for each n. Brackets have many different
      strings for the same n.
    - first_n: the largest n at the start of the curriculum.
    - curriculum: the largest n grows from `first_n` to n_max during this number of epochs. With 0
      all n occur from the first epoch on. An epoch always draws `train_size` strings, from those
      that are short enough.
    - count_to: the largest n that evaluation tries when it measures the capacity.

    Raises `UserError` for settings that are out of range.
    """

    yields = (Tokens,)
    licence = "none: the strings are generated"
    pool = 1  # a pool would be sorted by length, and a batch of one n trains only that length

    @check_arguments
    def __init__(
        self,
        grammar: Literal["anbn", "anbncn", "dyck1", "dyck2"] = "anbn",
        n_max: PositiveInt = 20,
        weights: tuple[NonNegativeFloat, ...] = COURSE_WEIGHTS,
        train_size: PositiveInt = 2000,
        val_n: tuple[PositiveInt, PositiveInt] = (1, 30),
        test_n: tuple[PositiveInt, PositiveInt] = (1, 100),
        copies: PositiveInt = 1,
        curriculum: NonNegativeInt = 0,
        first_n: PositiveInt = 4,
        count_to: PositiveInt = 1000,
        batch_size: PositiveInt = 32,
        codec: CharCodec | None = None,
        seed: Seed = 1,
        num_workers: NonNegativeInt = 0,
    ) -> None:
        default_codec = CharCodec(GRAMMARS[grammar].symbols, unknown=False)
        super().__init__(codec or default_codec, batch_size, seed, num_workers)
        if sum(weights[:n_max]) <= 0:
            raise UserError(
                f"data.weights={list(weights)}: one of the first {n_max} must be above 0"
            )
        for key, (low, high) in (("val_n", val_n), ("test_n", test_n)):
            if low > high:
                raise UserError(f"data.{key}={[low, high]}: the first n is above the last")
        self.grammar = GRAMMARS[grammar]
        self.n_max, self.train_size, self.copies = n_max, train_size, copies
        self.curriculum, self.first_n = curriculum, first_n
        self.weights, self.ranges, self.count_to = weights, {"val": val_n, "test": test_n}, count_to

    def setup(self, stage: str | None = None) -> None:
        if self.texts:
            return
        self.texts["train"] = self._training_strings()
        for split, (low, high) in self.ranges.items():
            rng = self._rng(split)
            sizes = np.repeat(np.arange(low, high + 1), self.copies)
            self.texts[split] = [self.grammar.drawn(int(n), rng) for n in sizes]

    def _training_strings(self) -> list[str]:
        last = len(self.weights) - 1
        p = np.array([self.weights[min(i, last)] for i in range(self.n_max)])
        rng = self._rng("train")
        self.sizes = 1 + rng.choice(self.n_max, self.train_size, p=p / p.sum())
        return [self.grammar.drawn(int(n), rng) for n in self.sizes]

    def _rng(self, split: str) -> np.random.Generator:
        return random_stream(Stream.STRINGS, self.seed, SPLITS.index(split))

    def probabilities(self, epoch: int) -> np.ndarray | None:
        if epoch >= self.curriculum:
            return None
        largest = self.first_n + (self.n_max - self.first_n) * epoch // self.curriculum
        short_enough = self.sizes <= max(largest, int(self.sizes.min()))
        return short_enough / short_enough.sum()
