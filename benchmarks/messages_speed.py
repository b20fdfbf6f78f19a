"""Messages per second of lstm_midi, compared with the course's code and a bare loop.

    python benchmarks/messages_speed.py [PART ...]

Without names all parts run:

- training: the course's loop (one target per window of 30) and musegen (a target at every
  position), both with one LSTM layer of 128 units, three independent heads, dropout 0.2 and Adam;
- fit: `Trainer.fit` of the default job, with checkpoints, loggers and previews, and a bare PyTorch
  loop over the same tensors with the same optimiser, clipping and schedule;
- generation: the course's loop (which reads the window of 30 again for each message) and musegen,
  with 1 and 64 pieces per batch, at the course's size and at the default size; and what bounds
  one piece of the default size: products with the weights of a step, without anything else.

Every pair is timed alternately, `ROUNDS` times. The result is the median of the rounds' ratios,
since on a shared machine a ratio within a round varies less than a time.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn

from datamodules.message_streams import Mozart
from musegen.cli import console
from musegen.codecs.messages import MessageCodec
from musegen.config.instantiation import build_model, build_trainer
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.models import Model
from musegen.models.lstm_midi import LSTMMidi
from musegen.models.message_step import MessageStep
from musegen.runtime.memory import keep_freed_memory

ROUNDS = 3
WINDOW = 30


class CourseLSTM(nn.Module):
    """The course's network: concatenated one-hots → LSTM(128) → three heads at the last step."""

    def __init__(self, sizes: tuple[int, int, int], hidden: int = 128) -> None:
        super().__init__()
        self.sizes = sizes
        self.lstm = nn.LSTM(sum(sizes), hidden, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.heads = nn.ModuleList(nn.Linear(hidden, n) for n in sizes)

    def forward(self, x_BTF: torch.Tensor) -> list[torch.Tensor]:
        fields = [F.one_hot(x_BTF[..., f], n).float() for f, n in enumerate(self.sizes)]
        h_BTH, _ = self.lstm(torch.cat(fields, -1))
        last_BH = self.dropout(h_BTH[:, -1])
        return [head(last_BH) for head in self.heads]


def seconds(work: Callable[[], int]) -> float:
    """Seconds per message. `work` returns the number of messages."""
    started = time.perf_counter()
    messages = work()
    return (time.perf_counter() - started) / messages


def compare(
    name: str, reference: Callable[[], int], ours: Callable[[], int], num_rounds: int = ROUNDS
) -> None:
    """Print messages per second of both, and the median ratio over the rounds."""
    reference(), ours()  # warm up
    rounds = [(seconds(reference), seconds(ours)) for _ in range(num_rounds)]
    ratios = [a / b for a, b in rounds]
    rates = [f"{1 / statistics.median(column):>9,.0f}" for column in zip(*rounds, strict=True)]
    print(f"| {name} | {rates[0]} | {rates[1]} | {statistics.median(ratios):.2f} |", flush=True)


def course_training(stream: torch.Tensor, sizes: tuple[int, int, int]) -> Callable[[], int]:
    """The course's loop: shuffled windows of 30, batches of 64, one target each."""
    net = CourseLSTM(sizes)
    adam = torch.optim.Adam(net.parameters(), 1e-3)
    starts = torch.randperm(len(stream) - WINDOW)[: 64 * 30].tolist()

    def work() -> int:
        for b in range(0, len(starts), 64):
            batch = starts[b : b + 64]
            x = torch.stack([stream[s : s + WINDOW] for s in batch])
            y = torch.stack([stream[s + WINDOW] for s in batch])
            loss = sum(F.cross_entropy(z, y[:, f]) for f, z in enumerate(net(x)))
            adam.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            adam.step()
        return len(starts)

    return work


def our_training(data: Mozart) -> Callable[[], int]:
    """lstm_midi at the course's size with the data module's loader, in a bare loop.

    It has half the default's units, and embeddings of half the default's width.
    """
    net = LSTMMidi(
        data.spec, data.codec, hidden=128, layers=1, embedding=(32, 16, 16),
        heads="independent", active_note_dim=0, dropout=0.2,
    )  # fmt: skip
    adam = net.optimizer.build(net.parameters())

    def work() -> int:
        done = 0
        for batch in data.train_dataloader():
            loss = sum(net.losses(batch).values())
            adam.zero_grad()
            loss.backward()  # type: ignore[union-attr]
            adam.step()
            done += net.num_predictions(batch)
        return done

    return work


def fit_against_bare_loop(data: Mozart, epochs: int = 40) -> tuple[Callable, Callable]:
    """A bare loop, and Trainer.fit with the default loggers and callbacks; the same updates."""
    folder = tempfile.mkdtemp()
    settings = resolve_config(compose_config([f"trainer.max_epochs={epochs}", f"run_dir={folder}"]))

    def new_model() -> Model:
        torch.manual_seed(0)
        return build_model(settings, data)

    def fit() -> int:
        shutil.rmtree(folder, ignore_errors=True)
        build_trainer(settings).fit(new_model(), datamodule=data)
        return epochs * messages_per_epoch(data)

    def bare() -> int:
        model = new_model().train()
        steps = epochs * len(data.train_dataloader())
        config = model.optimizer.configure(model.parameters(), lambda: steps, *model.monitor)
        optimizer, schedule = config["optimizer"], config["lr_scheduler"]["scheduler"]
        for _ in range(epochs):
            for batch in data.train_dataloader():
                loss = sum(model.losses(batch).values())
                optimizer.zero_grad()
                loss.backward()  # type: ignore[union-attr]
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
            model.eval()
            with torch.no_grad():
                for batch in data.val_dataloader():
                    model.score(batch, model.val_metric, "val")
            model.val_metric.compute(), model.val_metric.reset()
            model.train()
        return epochs * messages_per_epoch(data)

    return bare, fit


def messages_per_epoch(data: Mozart) -> int:
    """The number of messages in one epoch's windows."""
    return len(data.train_dataloader()) * data.batch_size * data.window


def course_generation(sizes: tuple[int, int, int], length: int = 200) -> Callable[[], int]:
    net = CourseLSTM(sizes).eval()

    @torch.no_grad()
    def work() -> int:
        window = torch.stack([torch.randint(0, n, (WINDOW,)) for n in sizes], -1)
        for _ in range(length):
            logits = net(window[None])
            drawn = [torch.multinomial(F.softmax(z[0], -1), 1) for z in logits]
            window = torch.cat([window[1:], torch.cat(drawn)[None]])
        return length

    return work


def our_generation(
    net: LSTMMidi, n: int, length: int = 400, **settings: float
) -> Callable[[], int]:
    return lambda: n * length if net.generate(n, length, **settings) else 0


def main(parts: list[str]) -> None:
    console.quiet()
    keep_freed_memory()  # as in train.py; it applies to all loops
    pl.seed_everything(0, verbose=False)
    data = Mozart(batch_size=64)
    data.prepare_data()
    data.setup()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| | reference, messages/s | ours, messages/s | ratio |\n|---|---|---|---|")
    for part in parts:
        PARTS[part](data)


def weights_alone(net: LSTMMidi, length: int = 400) -> Callable[[], int]:
    """Reads the large weights of a step once per message, in products with one row."""
    weights = [*MessageStep(net).W_IG, net.heads.from_state.weight.detach().t().contiguous()]
    rows = [torch.ones(1, len(W_IO)) for W_IO in weights]
    print(
        f"| {sum(W_IO.numel() for W_IO in weights) * 4 / 1e6:.2f} MB of weights per message | | | |"
    )

    @torch.inference_mode()
    def work() -> int:
        for _ in range(length):
            for row, W_IO in zip(rows, weights, strict=True):
                row @ W_IO
        return length

    return work


def training(data: Mozart) -> None:
    stream = torch.from_numpy(
        np.concatenate([data.codec.encode(p.stream) for p in data.pieces["train"]])
    )
    compare("training, 128 units: the course's loop", course_training(stream, data.spec.sizes),
            our_training(data))  # fmt: skip


def fit(_: Mozart) -> None:
    data = Mozart()
    data.setup()
    compare("default job: a bare loop and fit", *fit_against_bare_loop(data), num_rounds=1)


def generation(data: Mozart) -> None:
    small = LSTMMidi(data.spec, data.codec, 128, 1, heads="independent", active_note_dim=0)
    default = LSTMMidi(data.spec, data.codec)
    course = course_generation(data.spec.sizes)
    for name, net in (("128 units", small), ("default size", default)):
        for n in (1, 64):
            # The course's loop knows no key either.
            ours = our_generation(net, n, key_strength=0)
            compare(f"generation, {name}, batch of {n}", course, ours)
    matching = MessageCodec(time_unit="beats", longest_match=True)
    whole = LSTMMidi(matching.spec, matching)
    for n in (1, 64):
        compare(f"default settings of data=mozart, batch of {n}", course, our_generation(whole, n))
    compare(
        "these weights alone, and generation",
        weights_alone(default),
        our_generation(default, 1, key_strength=0),
    )


PARTS = {"training": training, "fit": fit, "generation": generation}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parts = parser.parse_args().parts
    if unknown := set(parts) - PARTS.keys():
        parser.error(f"no part has the name {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    main(parts or [*PARTS])
