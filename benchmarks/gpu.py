"""Speed, utilisation and correctness of every model on a GPU, as one table in Markdown.

    python benchmarks/gpu.py                       # all models; under ten minutes
    python benchmarks/gpu.py model=rnn_nade        # one model

Every model has its default size and trains with Lightning on random data of the shapes of its usual
data set, with the default and with a large batch, in float32 and with `trainer.fast=true`. Batches
are ready in memory, so the GPU waits for Lightning and the model's own Python code only.

The columns: frames, messages or characters per second; the share of the time in which kernels run
(their time per update, from torch.profiler, divided by that of an update without the profiler) and
the rest, in which the GPU waits; the largest memory of torch; and the loss of the same weights on
the same batch, without dropout, on the CPU in float32 and on the GPU. In fast rows the GPU's is the
compiled one, replayed. Chains cannot draw the same numbers on both, so the loss of the two RBMs is
mean F(batch) − mean F(another batch).

Each model has `SECONDS` in a process of its own; what does not fit is left out, in one line. The
exit code is 1 without a GPU, if a row is missing, or if losses differ by more than `TOLERANCE`.
"""

from __future__ import annotations

import copy
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
from torch import Generator, Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.data import DataLoader, Dataset

from musegen.cli import console
from musegen.codecs.messages import MessageCodec
from musegen.energy.free_energy import free_energy
from musegen.errors import UserError
from musegen.models import RBM, RNNNADE, RNNRBM, BiaxialLSTM, CharRNN, LSTMMidi, Model
from musegen.models.compiling import compile_loss
from musegen.specs import FrameBatch, Frames, MessageBatch, RollBatch, Rolls, TokenBatch, Tokens
from musegen.training.optimizer import Optimizer
from musegen.training.trainer import make_trainer

SECONDS = 90
"""The time of one model: four rows. Six models then need nine minutes at most."""
MEASURED_SECONDS, WARM_UP, PROFILED = 4.0, 10, 10
"""Seconds of the measured updates, and the numbers of updates before and after them."""
BATCHES, UPDATES_PER_EPOCH = 4, 300
TOLERANCE = {False: 1e-3, True: 2e-2}
"""The largest relative difference of the losses, in float32 and fast. cuDNN uses TF32 in LSTMs."""
HEADER = (
    "| model | batch | setting | per second | kernels run (%) | GPU waits (%) | memory (MB) "
    "| loss, CPU | loss, GPU | difference |\n|---|---|---|---|---|---|---|---|---|---|"
)


# --- Models and their batches -----------------------------------------------------------------


def frames(rows: int, random: Generator) -> FrameBatch:
    """Binary images as those of MNIST: a fifth of the pixels is on."""
    return FrameBatch((torch.rand(rows, 784, generator=random) < 0.2).float())


def rolls(rows: int, random: Generator, steps: int = 100) -> RollBatch:
    """Chunks of piano-rolls without padding, about four notes per frame."""
    x_BTD = (torch.rand(rows, steps, 88, generator=random) < 0.05).float()
    return RollBatch(x_BTD, torch.ones(rows, steps, dtype=torch.bool))


def names(rows: int, random: Generator) -> TokenBatch:
    """Names of 4 to 16 characters of 60."""
    x_BL = torch.randint(60, (rows, 17), generator=random)
    length_B1 = torch.randint(4, 17, (rows, 1), generator=random)
    return TokenBatch(x_BL, torch.arange(16) < length_B1)


def messages(rows: int, random: Generator, steps: int = 128) -> MessageBatch:
    """Windows of messages in bars of 4/4."""
    size, bar = (rows, steps + 1), 4 * MESSAGES.clock
    fields = [torch.randint(n, size, generator=random) for n in MESSAGES.sizes]
    clock = [torch.randint(bar, size, generator=random), torch.full(size, bar)]
    return MessageBatch(
        torch.stack(fields, dim=-1),
        torch.ones(rows, steps, dtype=torch.bool),
        torch.ones(rows, dtype=torch.bool),
        torch.stack(clock, dim=-1),
    )


MESSAGES = MessageCodec(time_unit="beats").spec


def model_loss(model: Any, batch: Any, other: Any) -> Tensor:
    """The loss of a batch; `other` is not used."""
    return torch.stack(list(model.losses(batch).values())).sum()


def rbm_loss(model: Any, batch: FrameBatch, other: FrameBatch) -> Tensor:
    """mean F(batch) − mean F(other)."""
    return model.free_energy(batch.x_BD).mean() - model.free_energy(other.x_BD).mean()


def rnn_rbm_loss(model: Any, batch: RollBatch, other: RollBatch) -> Tensor:
    """The same with the biases of each frame of the batch."""
    x_ND, b_v_ND, b_h_NH = model.frames_and_biases(batch)
    other_ND = other.x_BTD.flatten(0, 1)
    energy_N = [free_energy(v_ND, model.W_DH, b_v_ND, b_h_NH) for v_ND in (x_ND, other_ND)]
    return (energy_N[0] - energy_N[1]).mean()


@dataclass(frozen=True)
class Case:
    """A model, its batches, the default and a large batch size, and what is counted."""

    build: Callable[[], Model]
    batch: Callable[[int, Generator], Any]
    sizes: tuple[int, int]
    unit: str
    loss: Callable[[Any, Any, Any], Tensor] = model_loss


CASES = {
    "rbm": Case(lambda: RBM(Frames(784)), frames, (20, 4096), "images", rbm_loss),
    "rnn_rbm": Case(lambda: RNNRBM(Rolls(88)), rolls, (16, 256), "frames", rnn_rbm_loss),
    "rnn_nade": Case(lambda: RNNNADE(Rolls(88)), rolls, (16, 64), "frames"),
    "biaxial_lstm": Case(lambda: BiaxialLSTM(Rolls(88)), rolls, (16, 64), "frames"),
    "char_rnn": Case(lambda: CharRNN(Tokens(60)), names, (64, 4096), "characters"),
    "lstm_midi": Case(lambda: LSTMMidi(MESSAGES), messages, (32, 512), "messages"),
}


# --- Measurement ------------------------------------------------------------------------------


class Batches(Dataset):  # type: ignore[type-arg]
    """An epoch of a few batches in turn."""

    def __init__(self, batches: list[Any]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return UPDATES_PER_EPOCH

    def __getitem__(self, index: int) -> Any:
        if index >= len(self):
            raise IndexError
        return self.batches[index % len(self.batches)]


class Spans(NamedTuple):
    """When each kernel started and ended, in microseconds."""

    spans: list[tuple[float, float]]

    def total(self) -> float:
        """The seconds in which at least one kernel ran."""
        busy, last_end = 0.0, float("-inf")
        for start, end in sorted(self.spans):
            busy += max(0.0, end - max(start, last_end))
            last_end = max(last_end, end)
        return busy / 1e6


def kernels(profiler: Any) -> Spans:
    """The kernels and copies that the profiler has recorded on the GPU."""
    events = (e for e in profiler.events() if e.device_type == DeviceType.CUDA)
    return Spans([(e.time_range.start, e.time_range.end) for e in events])


class Stopwatch(pl.Callback):
    """A warm-up, updates whose time is measured, updates under the profiler, and the end."""

    def __init__(self, seconds: float = MEASURED_SECONDS) -> None:
        self.seconds, self.update = seconds, 0
        self.started, self.measured, self.end = 0.0, 0, 0
        self.seconds_per_update = 0.0
        self.profiler: Any = None

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        self.update += 1
        if self.update == WARM_UP:
            torch.cuda.synchronize()
            self.started = time.perf_counter()
        elif self.profiler is not None:
            if self.update == self.end:
                torch.cuda.synchronize()
                self.profiler.__exit__(None, None, None)
                trainer.should_stop = True
        elif self.update > WARM_UP and time.perf_counter() - self.started > self.seconds:
            torch.cuda.synchronize()
            self.measured = self.update - WARM_UP
            self.seconds_per_update = (time.perf_counter() - self.started) / self.measured
            self.end = self.update + PROFILED
            self.profiler = profile(activities=[ProfilerActivity.CUDA])
            self.profiler.__enter__()


def losses(case: Case, model: Model, batches: list[Any], fast: bool) -> tuple[float, float]:
    """The loss of the same weights and batch on the CPU in float32, and on the GPU."""
    on_cpu, on_gpu = (copy.deepcopy(model).to(device).eval() for device in ("cpu", "cuda"))
    if fast and model.compiles is not None:
        compile_loss(on_gpu, "trainer.fast", cuda_graphs=True)
    pair = [
        type(batch)(*(x if x is None else x.to("cuda") for x in batch)) for batch in batches[:2]
    ]
    with torch.no_grad():
        expected = float(case.loss(on_cpu, *batches[:2]))
        with torch.autocast("cuda", torch.bfloat16, enabled=fast):
            for _ in range(4 if fast else 1):  # a graph is captured before it is replayed
                found = float(case.loss(on_gpu, *pair))
    return expected, found


def measure(name: str, rows: int, fast: bool, seconds: float = MEASURED_SECONDS) -> str:
    """One row of the table; losses that differ are marked."""
    case = CASES[name]
    random = torch.Generator().manual_seed(0)
    batches = [case.batch(rows, random) for _ in range(BATCHES)]
    pl.seed_everything(0, verbose=False)
    model = case.build()
    model.optimizer = Optimizer(lr=1e-4)
    torch.compiler.reset()  # the batch size of another row must not make these sizes variable
    on_cpu, on_gpu = losses(case, model, batches, fast)
    if fast and model.compiles is not None:
        compile_loss(model, "trainer.fast", cuda_graphs=True)
    stopwatch = Stopwatch(seconds)
    trainer = make_trainer(
        gpus=1, fast=fast, max_epochs=-1, logger=False, callbacks=[stopwatch],
        enable_checkpointing=False, limit_val_batches=0, gradient_clip_val=1.0,
    )  # fmt: skip
    torch.cuda.reset_peak_memory_stats()
    loader: Any = DataLoader(Batches(batches), batch_size=None)
    trainer.fit(model, train_dataloaders=loader)
    memory = torch.cuda.max_memory_allocated() / 2**20
    busy = kernels(stopwatch.profiler).total() / PROFILED / stopwatch.seconds_per_update
    per_second = float(model.num_predictions(batches[0])) / stopwatch.seconds_per_update
    difference = abs(on_gpu - on_cpu) / max(1e-6, abs(on_cpu))
    mark = "" if difference <= TOLERANCE[fast] else " (!)"
    return (
        f"| {name} | {rows:,} | {'fast' if fast else 'float32'} | {per_second:,.0f} {case.unit} "
        f"| {100 * min(1.0, busy):.0f} | {100 * max(0.0, 1 - busy):.0f} | {memory:,.0f} "
        f"| {on_cpu:.5f} | {on_gpu:.5f} | {difference:.1e}{mark} |"
    )


def rows_of(name: str) -> Iterable[tuple[int, bool]]:
    """The batch sizes and settings of a model's rows."""
    return ((rows, fast) for fast in (False, True) for rows in CASES[name].sizes)


def run_model(name: str) -> bool:
    """Print the rows of a model from its own process; whether all came and all losses agree."""
    command = [sys.executable, __file__, f"model={name}", "rows=true"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=SECONDS)
        reason = (err.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        reason = f"not in {SECONDS} s"
    table = [line for line in out.splitlines() if line.startswith(f"| {name} |")]
    for line in table:
        print(line, flush=True)
    missing = list(rows_of(name))[len(table) :]
    for rows, fast in missing:
        setting = "fast" if fast else "float32"
        print(f"| {name} | {rows:,} | {setting} | {reason[:120]} | | | | | | |", flush=True)
    return not missing and not any("(!)" in line for line in table)


def main() -> None:
    with console.one_line_errors():
        typed = console.key_values(sys.argv[1:])
        if not torch.cuda.is_available():
            raise UserError("benchmarks/gpu.py: torch finds no GPU here")
        chosen = [typed["model"]] if "model" in typed else list(CASES)
        if unknown := set(chosen) - set(CASES):
            raise UserError(f"model={unknown.pop()}: one of {', '.join(CASES)}")
        if "rows" in typed:
            for rows, fast in rows_of(chosen[0]):
                print(measure(chosen[0], rows, fast), flush=True)
            return
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n\n{HEADER}", flush=True)
        complete = [run_model(name) for name in chosen]
        if not all(complete):
            raise UserError("benchmarks/gpu.py: rows are missing, or losses differ: see the table")


if __name__ == "__main__":
    console.quiet()
    main()
