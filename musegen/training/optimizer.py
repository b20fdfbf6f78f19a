"""Optimizers and learning-rate schedules, as settings."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from annotated_types import Interval
from torch import nn
from torch.optim import lr_scheduler

from musegen.constraints import (
    NonNegativeFloat,
    NonNegativeInt,
    OpenFraction,
    PositiveFloat,
    check_fields,
)
from musegen.errors import UserError
from musegen.training.lightning_compat import allow_gradient_clipping

Betas = tuple[Annotated[float, Interval(ge=0, lt=1)], Annotated[float, Interval(ge=0, lt=1)]]


@dataclass(frozen=True)
class Optimizer:
    """An optimizer and the schedule of its learning rate.

    - name: `adam`, `adamw` or `sgd`.
    - lr: the learning rate; with a schedule, the highest one.
    - weight_decay: decoupled in `adamw`, an L2 penalty in the others; biases have none.
    - betas: of `adam` and `adamw`.
    - momentum, nesterov: of `sgd`.
    - schedule: `none`; `cosine`, from `lr` to `final_lr` along half a cosine over all steps;
      `plateau`, which multiplies the rate by `factor` after `patience` epochs without a better
      monitored score.
    - final_lr: the rate at the end of `cosine`.
    - factor, patience: of `plateau`.
    - warmup_steps: the rate rises linearly over these first steps (`none` and `cosine`).

    Raises `UserError` for values that the optimizer would refuse.
    """

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.0
    betas: Betas = (0.9, 0.999)
    momentum: NonNegativeFloat = 0.0
    nesterov: bool = False
    schedule: Literal["none", "cosine", "plateau"] = "none"
    warmup_steps: NonNegativeInt = 0
    final_lr: NonNegativeFloat = 0.0
    factor: OpenFraction = 0.5
    patience: NonNegativeInt = 3

    def __post_init__(self) -> None:
        check_fields(self)
        if self.nesterov and self.momentum == 0:
            raise UserError("optimizer.nesterov=true needs optimizer.momentum above 0, e.g. 0.9")
        if self.schedule == "plateau" and self.warmup_steps:
            raise UserError(
                f"optimizer.warmup_steps={self.warmup_steps}: schedule=plateau has no warm-up; use "
                "schedule=cosine or none, or leave it out"
            )

    def build(
        self, parameters: Iterable[nn.Parameter], rates: Mapping[nn.Parameter, float] | None = None
    ) -> torch.optim.Optimizer:
        """The torch optimizer of these parameters, without weight decay for vectors.

        `rates` maps parameters that do not train at `lr` to their multiple of `lr`.
        """
        groups = self._groups(parameters, rates or {})
        # One fused kernel for all parameters: a loop over tensors takes longer than its sums.
        optimizer: torch.optim.Optimizer
        if self.name == "sgd":
            optimizer = torch.optim.SGD(
                groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=True
            )
        else:
            kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.name]
            optimizer = kind(groups, lr=self.lr, betas=self.betas, fused=True)
        allow_gradient_clipping(optimizer)
        return optimizer

    def _groups(
        self, parameters: Iterable[nn.Parameter], rates: Mapping[nn.Parameter, float]
    ) -> list[dict[str, Any]]:
        """torch's parameter groups: one for each rate, matrices apart from vectors."""
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for p in parameters:
            if p.requires_grad:
                groups.setdefault((rates.get(p, 1.0), p.ndim > 1), []).append(p)
        return [
            {
                "params": group,
                "lr": rate * self.lr,
                "weight_decay": self.weight_decay if is_matrix else 0.0,
            }
            for (rate, is_matrix), group in sorted(
                groups.items(), key=lambda item: item[0], reverse=True
            )
        ]

    def configure(
        self,
        parameters: Iterable[nn.Parameter],
        total_steps: Callable[[], int],
        monitor: str,
        mode: str,
        rates: Mapping[nn.Parameter, float] | None = None,
    ) -> dict[str, Any]:
        """The value for `LightningModule.configure_optimizers` to return.

        `total_steps` is called only after the first update.
        """
        optimizer = self.build(parameters, rates)
        if self.schedule == "plateau":
            plateau = lr_scheduler.ReduceLROnPlateau(
                optimizer,
                mode=mode,  # type: ignore[arg-type]
                factor=self.factor,
                patience=self.patience,
            )
            schedule = {"scheduler": plateau, "monitor": monitor}
        elif self.schedule == "none" and self.warmup_steps == 0:
            return {"optimizer": optimizer}
        else:
            total = functools.cache(total_steps)
            rate = lr_scheduler.LambdaLR(
                optimizer, lambda step: self.rate(step, total() if step else 1)
            )
            schedule = {"scheduler": rate, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def rate(self, step: int, total_steps: int) -> float:
        """The learning rate at a step, as a multiple of `lr`."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "none":
            return 1.0
        done = (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)
        floor = self.final_lr / self.lr
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
