"""Training speed of char_rnn, compared with the course's loop over characters and a bare loop.

    python benchmarks/char_speed.py                  # data=anbn, and data=names if present
    python benchmarks/char_speed.py hidden=64 batch_size=1024

The course's loop reads one string at a time, character by character, and updates after each
string. musegen trains the same network (same cell, sizes and optimiser, float32, torch's default
number of threads) on padded batches of the same strings. `fit` is Lightning's loop without the
default callbacks; the bare loop has the same batches and losses without Lightning. The three are
measured alternately, five times each, and the best time counts, because other processes can only
make a measurement slower.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from datamodules.char_data import CharDataModule
from datamodules.grammar_strings import GrammarStrings
from datamodules.names import Names
from musegen.cli import console
from musegen.errors import UserError
from musegen.models.char_rnn import CharRNN
from musegen.runtime.memory import keep_freed_memory
from musegen.training.optimizer import Optimizer
from musegen.training.trainer import make_trainer

ROUNDS = 5
ADAM = Optimizer(lr=1e-3)


class CourseNet(nn.Module):
    """The course's network, one character per call: embedding → cell → linear → log-softmax."""

    def __init__(self, model: CharRNN) -> None:
        super().__init__()
        self.embed, self.embed_label = model.embed, model.embed_label
        self.cells, self.out = model.cells, model.out

    def forward(self, x: torch.Tensor, state: Any, label: torch.Tensor | None) -> tuple:
        e = self.embed(x)
        if label is not None and self.embed_label is not None:
            e = e + self.embed_label(label)
        h, state = self.cells(e[:, None], state)
        return F.log_softmax(self.out(h[:, 0]), dim=-1), state


def course_loop(model: CharRNN, data: CharDataModule, strings: int) -> float:
    """Strings per second of the course's training loop."""
    net, optimizer = CourseNet(model), ADAM.build(model.parameters())
    rows = data.coded("train")[:strings]
    labels = data.labels["train"] if data.labels else None
    started = time.perf_counter()
    for i, row in enumerate(rows):
        label = None if labels is None else torch.tensor([labels[i]])
        state, loss = None, torch.zeros(())
        x = torch.tensor([model.codec.start_class])
        for symbol in row.tolist():
            log_p, state = net(x, state, label)
            x = torch.tensor([symbol])
            loss = loss + F.nll_loss(log_p, x)
        optimizer.zero_grad()
        (loss / len(row)).backward()
        optimizer.step()
    return len(rows) / (time.perf_counter() - started)


def bare_loop(model: CharRNN, data: CharDataModule, epochs: int) -> float:
    """Strings per second of the same batches without Lightning."""
    optimizer = ADAM.build(model.parameters())
    loader = data.train_dataloader()
    started, seen = time.perf_counter(), 0
    for epoch in range(epochs):
        loader.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]
        for batch in loader:
            optimizer.zero_grad()
            loss = torch.stack(list(model.losses(batch).values())).sum()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            seen += len(batch.x_BL)
    return seen / (time.perf_counter() - started)


def fit(model: CharRNN, data: CharDataModule, epochs: int) -> float:
    """Strings per second of `Trainer.fit`, from the first batch to the last."""
    model.optimizer = ADAM
    trainer = make_trainer(gpus=0, max_epochs=epochs, logger=False, limit_val_batches=0,
                           enable_checkpointing=False, gradient_clip_val=1.0)  # fmt: skip
    clock: list[float] = []
    model.on_train_start = lambda: clock.append(time.perf_counter())  # type: ignore[method-assign]
    model.on_train_end = lambda: clock.append(time.perf_counter())  # type: ignore[method-assign]
    trainer.fit(model, train_dataloaders=data.train_dataloader())
    return epochs * len(data.texts["train"]) / (clock[1] - clock[0])


def measure(
    name: str, data: CharDataModule, settings: dict[str, Any], strings: int, epochs: int
) -> None:
    """One row of the table."""
    data.prepare_data()
    data.setup()
    model = CharRNN(data.codec.spec, data.codec, **settings)
    loops: dict[str, Callable[[], float]] = {
        "course": lambda: course_loop(model, data, strings),
        "bare": lambda: bare_loop(model, data, epochs),
        "fit": lambda: fit(model, data, epochs),
    }
    best = dict.fromkeys(loops, 0.0)
    for _ in range(ROUNDS):
        for loop, run in loops.items():
            best[loop] = max(best[loop], run())
    net = f"{settings['cell']} {settings['hidden']}, batch {data.batch_size}"
    print(f"| {name} ({net}) | {best['fit'] / best['course']:.0f} × "
          f"| {best['bare'] / best['course']:.0f} × | {best['bare'] / best['fit']:.2f} |",
          flush=True)  # fmt: skip


def main() -> None:
    with console.one_line_errors():
        settings = console.key_values(sys.argv[1:])
        keep_freed_memory()  # as in train.py; it applies to all three loops
        print("| data (net) | fit : course | bare loop : course | time of fit : bare loop |")
        print("|---|---|---|---|")
        for cell, hidden in (("rnn", 2), ("lstm", 1)):
            data = GrammarStrings(
                train_size=20_000, batch_size=int(settings.get("batch_size", 2000))
            )
            measure("anbn", data, {"cell": cell, "hidden": hidden}, strings=100, epochs=2)
        for hidden in (int(settings.get("hidden", 128)), 256):
            names = Names(batch_size=int(settings.get("batch_size", 512)))
            try:
                measure("names", names, {"cell": "lstm", "hidden": hidden}, 100, epochs=1)
            except UserError as e:
                print(f"names are left out: {e}")


if __name__ == "__main__":
    console.quiet()
    main()
