"""What limits the training of every model on a CPU: arithmetic, memory, random numbers or calls.

    OMP_NUM_THREADS=1 PYTHONPATH=. python benchmarks/limits.py [family ...]

For every family of models at its default size: the time of an update in a bare loop (loss,
gradient, clipping, optimizer, loader), the same by `Trainer.fit`, and four lower bounds of the bare
loop's time, each as if nothing else took any:

- arithmetic: the multiplications and additions of matrix products, by the speed of oneDNN's
  float32 product of 2,048 x 2,048;
- memory: the bytes that all operations read and write, by the speed of adding to a large array.
  What stays in a cache is counted as well, so that this is no strict bound for small models;
- random numbers: what dropout and chains draw, by the speed of drawing alone;
- calls: the number of torch's operations, by the time of one on a single number.

The chains of RBMs are counted as dense products; the compiled loops skip units that are off.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import pytorch_lightning as pl
import torch
from threads import FAMILIES, train
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from musegen.cli import console
from musegen.config.instantiation import build_data, build_model
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.energy.affine import affine
from musegen.energy.gibbs import bernoulli
from musegen.models import Model
from musegen.runtime.memory import keep_freed_memory

ROUNDS, UPDATES = 5, 8
"""How often each pair is timed, and over how many updates the work is counted."""
aten = torch.ops.aten
RANDOM = {aten.random_, aten.uniform_, aten.bernoulli_, aten.exponential_, aten.normal_}


def seconds(work: Callable[[], Any], repeats: int = 1) -> float:
    """The shortest of `ROUNDS` times, per repeat, after a warm-up."""
    work()
    times = []
    for _ in range(ROUNDS):
        started = perf_counter()
        for _ in range(repeats):
            work()
        times.append((perf_counter() - started) / repeats)
    return min(times)


@dataclass
class Work:
    """What an update asks of the machine."""

    operations: float = 0
    """Multiplications and additions."""
    bytes: float = 0
    draws: float = 0
    """Random numbers that torch draws."""
    chain_draws: float = 0
    """Random numbers that the compiled chains draw."""
    calls: float = 0


class Speeds:
    """The seconds that each unit of `Work` takes on this machine."""

    def __init__(self) -> None:
        square, large, one = torch.randn(2048, 2048), torch.zeros(2**26), torch.zeros(1)
        bits, logits = torch.zeros(2**20, dtype=torch.int64), torch.zeros(100, 1000)
        out = torch.zeros_like(logits)
        self.operation = seconds(lambda: affine(square, square)) / (2 * 2048**3)
        self.byte = seconds(lambda: large.add_(1)) / (2 * large.nbytes)
        self.draw = seconds(bits.random_) / len(bits)
        self.chain_draw = seconds(lambda: bernoulli(logits, out)) / logits.numel()
        self.call = seconds(lambda: one.add_(1), 1000)

    def bounds(self, work: Work) -> tuple[float, float, float, float]:
        """Seconds of arithmetic, memory, random numbers and calls."""
        draws = work.draws * self.draw + work.chain_draws * self.chain_draw
        calls = work.calls * self.call
        return work.operations * self.operation, work.bytes * self.byte, draws, calls

    def __str__(self) -> str:
        return (
            f"{1e-9 / self.operation:.0f} billion operations/s, {1e-9 / self.byte:.0f} GB/s, "
            f"{1e9 * self.draw:.2f} ns per 64 random bits, {1e9 * self.chain_draw:.2f} ns per "
            f"unit of a chain, {1e6 * self.call:.2f} µs per call"
        )


class Counting(TorchDispatchMode):
    """Counts bytes, random numbers and calls."""

    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work

    def __torch_dispatch__(self, func: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.work.calls += 1
        if not func.is_view:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, Tensor)]
            self.work.bytes += sum(t.nbytes for t in tensors)
        if func.overloadpacket in RANDOM:
            self.work.draws += out.numel()
        return out


def lstm_operations(passes: int) -> Callable[..., int]:
    """oneDNN's LSTM layer; its arguments begin with the input and the two weight matrices."""

    def count(x: Any, input_weight: Any, hidden_weight: Any, *_: Any, **__: Any) -> int:
        steps = x[0] * x[1]  # frames times batch rows, in either order
        weights = input_weight[0] * input_weight[1] + hidden_weight[0] * hidden_weight[1]
        return 2 * passes * steps * weights

    return count


OPERATIONS: dict[Any, Callable[..., int]] = {
    aten.mkldnn_rnn_layer: lstm_operations(1),
    aten.mkldnn_rnn_layer_backward: lstm_operations(2),
    aten.addmm_: lambda _, a, b, *__, **___: 2 * a[0] * a[1] * b[1],
}
"""What `FlopCounterMode` does not know: from the shapes of the arguments."""


def chains_of(model: Model, work: Work) -> None:
    """Add the Gibbs steps, and the products of the contrast, of an RBM's last update."""
    gibbs = getattr(model, "_gibbs", None)
    if gibbs is None:
        return
    (rows, visible), hidden = gibbs.v_BD.shape, gibbs.h_BH.shape[1]
    product = 2 * rows * visible * hidden
    work.operations += (2 * model.k + 1) * product + 2 * product
    work.chain_draws += model.k * rows * (visible + hidden)


class BareLoop:
    """The updates of `Trainer.fit` without Lightning."""

    def __init__(self, settings: dict[str, Any], data: Any) -> None:
        pl.seed_everything(1, verbose=False)
        self.model = build_model(settings, data).train()
        self.clip = settings["trainer"]["gradient_clip_val"]
        weights = list(self.model.parameters())
        configured = self.model.optimizer.configure(weights, lambda: 1000, *self.model.monitor)
        self.optimizer = configured["optimizer"]
        self.loader = data.train_dataloader()
        self.batches = self._forever()

    def _forever(self) -> Iterator[Any]:
        while True:
            yield from self.loader

    def update(self) -> int:
        """One update; returns its number of predictions."""
        batch = next(self.batches)
        loss = torch.stack(list(self.model.losses(batch).values())).sum()
        self.optimizer.zero_grad()
        loss.backward()
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return int(self.model.num_predictions(batch))

    def work(self) -> Work:
        """The mean work of its updates."""
        total = Work()
        for _ in range(UPDATES):
            flops = FlopCounterMode(display=False, custom_mapping=OPERATIONS)
            with flops, Counting(total):
                self.update()
            total.operations += flops.get_total_flops()
            chains_of(self.model, total)
        return Work(**{k: v / UPDATES for k, v in vars(total).items()})


def row(family: str, speeds: Speeds) -> str:
    """A row of the table."""
    overrides, updates = FAMILIES[family]
    with tempfile.TemporaryDirectory() as folder:
        settings = resolve_config(compose_config([*overrides, f"run_dir={folder}"]))
        data = build_data(settings)
        data.prepare_data()
        data.setup()
        loop = BareLoop(settings, data)
        predictions = statistics.mean(loop.update() for _ in range(UPDATES))
        work = loop.work()
        pairs = []
        for _ in range(ROUNDS):
            fitted = train(family, data, torch.get_num_threads(), updates)[0]
            started = perf_counter()
            for _ in range(updates):
                loop.update()
            pairs.append(((perf_counter() - started) / updates, fitted))
    bare = statistics.median(pair[0] for pair in pairs)
    ratio = statistics.median(b / f for b, f in pairs)
    shares = " | ".join(f"{bound / bare:.0%}" for bound in speeds.bounds(work))
    return f"| `{family}` | {predictions / bare:,.0f} | {1e3 * bare:.2f} | {ratio:.2f} | {shares} |"


def main() -> None:
    console.quiet()
    keep_freed_memory()  # as in train.py
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    speeds = Speeds()
    print(f"{speeds}, {torch.get_num_threads()} thread(s)\n")
    print("| model | predictions/s | update (ms) | fit ÷ bare loop "
          "| arithmetic | memory | random numbers | calls |")  # fmt: skip
    print("|---" * 8 + "|")
    with console.one_line_errors():
        for family in sys.argv[1:] or FAMILIES:
            print(row(family, speeds), flush=True)


if __name__ == "__main__":
    main()
