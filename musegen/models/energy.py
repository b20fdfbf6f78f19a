"""What models taught by a contrast of energies share: a step that hardly logs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from musegen.models.base import Model


class EnergyModel(Model):
    """A model whose updates are so short that logging each of them would be a good part.

    Figures are summed here by name, weighted by `steps`, and logged with the epoch's last batch.
    """

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._sums: dict[str, tuple[Tensor, int]] = {}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        parts = self.losses(batch)
        loss = torch.stack(list(parts.values())).sum()
        weight = self.steps(batch)
        for name, value in {"loss": loss, **(parts if len(parts) > 1 else {})}.items():
            self.note(name, value.detach(), weight)
        if self.trainer.is_last_batch:
            means = {f"train/{n}": total / steps for n, (total, steps) in self._sums.items()}
            self.log_dict(means, on_step=False, on_epoch=True, sync_dist=True, batch_size=1)
            self._sums = {}
        return loss

    def note(self, name: str, mean: Tensor, weight: int) -> None:
        """Add a figure of this update, a mean over `weight` rows, to the epoch's."""
        total, rows = self._sums.get(name, (torch.zeros_like(mean, dtype=torch.float64), 0))
        self._sums[name] = (total.add_(mean, alpha=weight), rows + weight)
