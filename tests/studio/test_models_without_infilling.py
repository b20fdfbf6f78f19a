"""What the studio asks of models that are not musegen's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from conftest import tune

from musegen.errors import UserError
from musegen.studio import music
from musegen.studio.jobs import Job


def test_a_model_without_infilling_is_refused_in_one_line() -> None:
    model, job = SimpleNamespace(name="mine"), Job(lambda _: {})
    region = music.Rewriting(0.0, 1.0, 0, 127, "none", False)
    with pytest.raises(UserError, match="mine has no `infill`"):
        music.rewrite(job, model, tune(0), 120.0, region, {"n": 1, "seed": 0})
    with pytest.raises(UserError, match="mine has no `surprise`"):
        music.surprise(model, tune(0), 120.0)
