"""The settings of `tune`: a search before the training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from musegen.constraints import PositiveFloat, check_fields
from musegen.errors import UserError


@dataclass(frozen=True)
class Tune:
    """A search for the learning rate before the training, in one process.

    - lr: whether to search; the result replaces `optimizer.lr`, also when the run is resumed.
    - min_lr, max_lr: the first and the last rate of the search.
    - steps: how many rates are tried, with one update each. The search ends earlier if the loss
      becomes four times the best one.

    Raises `UserError` for values out of range.
    """

    lr: bool = False
    min_lr: PositiveFloat = 1e-6
    max_lr: PositiveFloat = 1.0
    steps: Annotated[int, Ge(20)] = 100

    def __post_init__(self) -> None:
        check_fields(self)
        if self.min_lr >= self.max_lr:
            raise UserError(
                f"tune.min_lr={self.min_lr}: must be smaller than tune.max_lr={self.max_lr}"
            )
