"""OMP_DYNAMIC, with which torch's LSTM computes something else, is switched off."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from musegen.runtime.threads import switch_off_dynamic_threads

LSTM_GRADIENT = """
import musegen.cli.main, torch
torch.manual_seed(0)
lstm = torch.nn.LSTM(64, 128)
output, _ = lstm(torch.randn(50, 32, 64))
output.sum().backward()
print(output.detach().double().abs().sum().item())
print(lstm.weight_hh_l0.grad.double().abs().sum().item())
"""


def gradient(dynamic: str) -> tuple[list[float], str]:
    """Sums of an LSTM's output and gradient, with two threads; what is printed as an error."""
    environment = os.environ | {"OMP_DYNAMIC": dynamic, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", LSTM_GRADIENT],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [float(word) for word in done.stdout.split()], done.stderr


@pytest.mark.slow
def test_an_lstm_computes_the_same_when_the_user_has_set_it() -> None:
    plain, nothing = gradient("false")
    dynamic, message = gradient("true")
    assert dynamic == pytest.approx(plain, rel=1e-5)
    assert nothing == ""
    assert message.startswith("musegen: OMP_DYNAMIC is switched off")
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize("value", ["true", " TRUE ", "1"])
def test_only_true_is_changed(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    environment = {"OMP_DYNAMIC": value, "OTHER": "1"}
    switch_off_dynamic_threads(environment)
    assert environment == {"OMP_DYNAMIC": "false", "OTHER": "1"}
    assert "OMP_DYNAMIC" in capsys.readouterr().err
    for unchanged in ({}, {"OMP_DYNAMIC": "false"}, {"OMP_DYNAMIC": "FALSE"}):
        before = dict(unchanged)
        switch_off_dynamic_threads(unchanged)
        assert unchanged == before
        assert capsys.readouterr().err == ""
