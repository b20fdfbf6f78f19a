"""Optimisers and learning-rate schedules, as settings."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import lr_scheduler

from musegen.errors import UserError


@dataclass(frozen=True)
class Optimizer:
    """Which optimiser, and how its rate runs over training.

    - name: `adam`, `adamw` or `sgd` (`momentum` and `nesterov` apply to `sgd`, `betas` to the
      others). Weight decay is decoupled in `adamw`, L2 in the others, and leaves biases alone.
    - schedule: `none`; `cosine`, from `lr` to `final_lr` along half a cosine over all steps;
      `plateau`, times `factor` after `patience` epochs without a better monitored score.
    - warmup_steps: the rate rises linearly over the first steps (`none` and `cosine`).

    Raises `UserError` for values that the optimiser would refuse.
    """

    name: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = 1e-3
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.0
    nesterov: bool = False
    schedule: Literal["none", "cosine", "plateau"] = "none"
    warmup_steps: int = 0
    final_lr: float = 0.0
    factor: float = 0.5
    patience: int = 3

    def __post_init__(self) -> None:
        if not (self.lr > 0 and math.isfinite(self.lr)):
            raise UserError(f"optimizer.lr={self.lr}: must be above 0")
        if self.nesterov and self.momentum <= 0:
            raise UserError("optimizer.nesterov=true needs optimizer.momentum above 0, e.g. 0.9")
        if self.weight_decay < 0 or self.momentum < 0 or self.warmup_steps < 0:
            raise UserError("optimizer: weight_decay, momentum and warmup_steps must not be < 0")

    def build(
        self, parameters: Iterable[nn.Parameter], rates: Mapping[nn.Parameter, float] | None = None
    ) -> torch.optim.Optimizer:
        """The torch optimiser over these parameters, vectors spared from weight decay.

        `rates` holds the parameters that do not learn at `lr`, and the multiple at which they do.
        """
        grouped: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for p in parameters:
            if p.requires_grad:
                grouped.setdefault(((rates or {}).get(p, 1.0), p.ndim > 1), []).append(p)
        groups: list[dict[str, Any]] = [
            {
                "params": group,
                "lr": rate * self.lr,
                "weight_decay": self.weight_decay if matrices else 0.0,
            }
            for (rate, matrices), group in sorted(grouped.items(), key=lambda g: g[0], reverse=True)
        ]
        # One fused kernel over all parameters: the loop over tensors costs more than the maths.
        optimizer: torch.optim.Optimizer
        if self.name == "sgd":
            optimizer = torch.optim.SGD(
                groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=True
            )
        else:
            kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[self.name]
            optimizer = kind(groups, lr=self.lr, betas=self.betas, fused=True)
        # It could undo a loss scaler's work in its step, but gradients are clipped before.
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        return optimizer

    def configure(
        self,
        parameters: Iterable[nn.Parameter],
        total_steps: Callable[[], int],
        monitor: str,
        mode: str,
        rates: Mapping[nn.Parameter, float] | None = None,
    ) -> dict[str, Any]:
        """What `LightningModule.configure_optimizers` returns.

        `total_steps` is asked for when the first update has been made, not before.
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
        """The learning rate at a step, as a share of `lr`."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.schedule == "none":
            return 1.0
        done = (step - self.warmup_steps) / max(1, total_steps - self.warmup_steps)
        floor = self.final_lr / self.lr
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
