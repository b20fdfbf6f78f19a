"""`benchmarks/gpu.py` on the simulated GPU: everything but kernels and the profiler's events."""

from __future__ import annotations

import importlib
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import ROOT
from simulated_gpu import simulated_gpu
from torch.autograd import DeviceType

from musegen.models import RBM, RNNNADE, RNNRBM, BiaxialLSTM, CharRNN, LSTMMidi
from musegen.specs import Frames, Rolls, Tokens


@pytest.fixture
def gpu_benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("gpu")


TINY = {
    "rbm": lambda: RBM(Frames(784), hidden=3, k=2),
    "rnn_rbm": lambda: RNNRBM(Rolls(88), hidden=3, recurrent=2, k=2),
    "rnn_nade": lambda: RNNNADE(Rolls(88), hidden=3, recurrent=2),
    "biaxial_lstm": lambda: BiaxialLSTM(Rolls(88), hidden=2, note_hidden=2, features=2),
    "char_rnn": lambda: CharRNN(Tokens(60), hidden=3),
}


def kernel(start: float, end: float, device: DeviceType = DeviceType.CUDA) -> SimpleNamespace:
    return SimpleNamespace(device_type=device, time_range=SimpleNamespace(start=start, end=end))


def test_kernels_that_overlap_count_once(gpu_benchmark: ModuleType) -> None:
    """0 to 2 and 1 to 3 are 3 µs, 5 to 6 is 1; what the CPU does is not counted."""
    events = [kernel(5, 6), kernel(0, 2), kernel(1, 3), kernel(0.5, 0.6),
              kernel(0, 100, DeviceType.CPU)]  # fmt: skip
    spans = gpu_benchmark.kernels(SimpleNamespace(events=lambda: events))
    assert spans.total() == pytest.approx(4e-6)


class Profiler:
    """In place of torch's: half a millisecond of kernels per update."""

    def __init__(self, activities: list[Any]) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def events(self) -> list[SimpleNamespace]:
        return [kernel(1000 * i, 1000 * i + 500) for i in range(2)]


@pytest.mark.parametrize(
    ("name", "fast"), [("rnn_rbm", False), *((name, True) for name in [*TINY, "lstm_midi"])]
)
def test_a_row_of_every_model(
    gpu_benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, fast: bool
) -> None:
    case = gpu_benchmark.CASES[name]
    build = TINY.get(name, lambda: LSTMMidi(gpu_benchmark.MESSAGES, hidden=3, layers=1))
    in_steps = case.unit in ("frames", "messages")
    batch = partial(case.batch, steps=4) if in_steps else case.batch
    tiny = gpu_benchmark.Case(build, batch, (2, 2), case.unit, case.loss)
    monkeypatch.setattr(gpu_benchmark, "WARM_UP", 1)
    monkeypatch.setattr(gpu_benchmark, "PROFILED", 2)
    monkeypatch.setitem(gpu_benchmark.CASES, name, tiny)
    monkeypatch.setattr(gpu_benchmark, "profile", Profiler)
    for function in ("synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, function, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 3 * 2**20)
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda losses, mode: compiled.append(mode) or losses)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: None)
    with simulated_gpu():
        row = gpu_benchmark.measure(name, 2, fast, seconds=0.0)
    cells = [cell.strip() for cell in row.split("|")]
    assert cells[1:4] == [name, "2", "fast" if fast else "float32"]
    assert cells[4].endswith(case.unit)
    assert int(cells[5]) + int(cells[6]) == 100
    assert cells[7] == "3"
    assert float(cells[8]) == pytest.approx(float(cells[9]), rel=2e-2 if fast else 1e-3)
    assert "(!)" not in row
    assert compiled == ["reduce-overhead"] * (2 if fast and name != "rbm" else 0)


def test_without_a_gpu_it_is_one_line(gpu_benchmark: ModuleType, cli, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    code, out, err = cli(gpu_benchmark.main)
    assert (code, out) == (1, "")
    assert err == "musegen: benchmarks/gpu.py: torch finds no GPU here\n"


def test_a_model_that_takes_too_long_is_one_row_for_each_of_its_sizes(
    gpu_benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(gpu_benchmark, "SECONDS", 0.01)
    assert gpu_benchmark.run_model("rbm") is False
    rows = capsys.readouterr().out.splitlines()
    assert [row.split("|")[2:5] for row in rows] == [
        [f" {size} ", f" {setting} ", " not in 0.01 s "]
        for setting in ("float32", "fast") for size in ("20", "4,096")
    ]  # fmt: skip
