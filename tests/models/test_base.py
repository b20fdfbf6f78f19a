"""What all models share: the means of an epoch."""

from __future__ import annotations

import pytest
import torch

from musegen.models.rbm import RBM
from musegen.specs import Frames


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_mean_of_many_losses_is_exact(dtype: torch.dtype, monkeypatch) -> None:
    model, logged = RBM(Frames(4), hidden=2), {}
    monkeypatch.setattr(model, "log", lambda name, value, **_: logged.update({name: value}))
    for _ in range(1250):
        model.accumulate(100, loss=torch.tensor(1.0, dtype=dtype))
    model._log_accumulated()
    assert float(logged["train/loss"]) == 1.0
