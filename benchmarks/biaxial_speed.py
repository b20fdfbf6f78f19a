"""The biaxial LSTM against the same maths in plain PyTorch, for all 88 pitches.

    python benchmarks/biaxial_speed.py [--updates 12] [--frames 256] [--data JSB_Chorales]

The plain version builds every input of every frame and pitch, applies one matrix to all of them,
and computes padding too. Both have the same weights and the same loss, which is checked first. The
plain version is timed once with default settings, and then again, alternating with musegen's, while
glibc keeps freed memory (`musegen.runtime.memory`), as in `train.py`. Forward and backward pass on
the same batches in one process; medians of the frames per second. Last, the time that 8 generated
pieces take. Needs MUSEGEN_DATA/icml2012.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datamodules.roll_benchmark import RollBenchmark
from musegen.models.biaxial_lstm import ATTENTION_HEAD_WIDTH, BiaxialLSTM
from musegen.runtime.memory import keep_freed_memory
from musegen.specs import RollBatch, Rolls

AGES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32]
COLUMNS = {"JSB_Chorales": (22, 76), "Nottingham": (10, 73)}


class Plain(nn.Module):
    """The biaxial LSTM of all 88 pitches in plain PyTorch, batch first."""

    def __init__(self, model: BiaxialLSTM) -> None:
        super().__init__()
        sizes = model.hparams
        self.like, self.heads = model, sizes["attention_heads"]
        self.embed = nn.Linear(47 + 30 + 13, sizes["features"])
        self.time = nn.LSTM(sizes["features"], sizes["hidden"], batch_first=True)
        self.whole = nn.LSTM(88 + 30, sizes["global_hidden"], batch_first=True)
        self.note = nn.LSTM(model.note_lstm.input_size, sizes["note_hidden"], batch_first=True)
        self.numbers = nn.Linear(sizes["global_hidden"], 88 * 4)
        self.query = nn.Linear(sizes["global_hidden"], self.heads * ATTENTION_HEAD_WIDTH)
        self.key = nn.Linear(sizes["global_hidden"], self.heads * ATTENTION_HEAD_WIDTH)
        self.distance_bias_MS = nn.Parameter(torch.zeros(self.heads, sizes["attention_span"]))
        self.null_M = nn.Parameter(torch.zeros(self.heads))
        self.logit = nn.Linear(model.context_logit.in_features + sizes["note_hidden"], 1)
        self.dropout = nn.Dropout(sizes["dropout"])

    def copy_weights(self, m: BiaxialLSTM) -> None:
        """Copy the weights of a model of all 88 pitches."""
        pairs = [(self.time, m.time_lstm), (self.whole, m.global_lstm), (self.note, m.note_lstm),
                 (self.numbers, m.numbers), (self.query, m.attention.query),
                 (self.key, m.attention.key)]  # fmt: skip
        for ours, theirs in pairs:
            ours.load_state_dict(theirs.state_dict())
        with torch.no_grad():
            parts = [m.embed.weight, m.hands.weight, m.absolute.weight]
            self.embed.weight.copy_(torch.cat(parts, dim=1))
            self.embed.bias.copy_(m.embed.bias)
            self.logit.weight.copy_(torch.cat([m.note_logit.weight, m.context_logit.weight], 1))
            self.logit.bias.copy_(m.context_logit.bias)
            self.distance_bias_MS.copy_(m.attention.distance_bias_MS)
            self.null_M.copy_(m.attention.null_M)

    def loss(self, batch: RollBatch) -> Tensor:
        x_BTD, mask_BT = batch
        rows, steps, pitches = x_BTD.shape
        before = F.pad(x_BTD, (0, 0, 1, 0))[:, :-1]
        window = F.pad(before, (12, 12)).unfold(-1, 25, 1)
        counts = torch.stack([before[..., k::12].sum(-1) for k in range(12)], -1)
        classes = torch.stack([counts.roll(-d, -1) for d in range(pitches)], 2) / 2
        age = torch.zeros(rows, pitches)
        ages = []
        for t in range(steps):
            age = (age + 1) * before[:, t]
            ages.append(age)
        age = torch.stack(ages, 1)[..., None]
        smallest, end = torch.tensor(AGES), torch.tensor([*AGES[1:], 10**9])
        age = ((age >= smallest) & (age < end)).float()
        t = torch.arange(steps)
        clock = torch.cat([F.one_hot(t % p, p) for p in (2, 4, 8, 16)], -1).float()
        clock_B = clock.expand(rows, -1, -1)
        d = torch.arange(pitches)
        absolute = torch.cat([F.one_hot(d % 12, 12), (2 * d / 87 - 1)[:, None]], -1)
        shape = rows, steps, pitches, -1
        e = self.embed(torch.cat([
            window, classes, age, clock[:, None].expand(*shape), absolute.expand(*shape)
        ], -1))  # fmt: skip
        h, _ = self.time(e.transpose(1, 2).flatten(0, 1))
        h = self.dropout(h.unflatten(0, (rows, pitches)).transpose(1, 2))
        u = self.dropout(self.whole(torch.cat([before, clock_B], -1))[0])
        numbers = self.numbers(u).unflatten(-1, (pitches, 4))
        q, k = (
            f(u).unflatten(-1, (self.heads, ATTENTION_HEAD_WIDTH)) for f in (self.query, self.key)
        )
        scores = torch.einsum("bthw,bshw->bhts", q, k) / ATTENTION_HEAD_WIDTH**0.5
        distance = t[:, None] - t
        bias = self.distance_bias_MS[:, (distance - 1).clamp(0, self.distance_bias_MS.shape[1] - 1)]
        masked = (distance < 1) | (distance > self.distance_bias_MS.shape[1])
        scores = (scores + bias).masked_fill(masked, -torch.inf)
        null_scores = self.null_M[:, None, None].expand(rows, -1, steps, 1)
        weights = torch.cat([scores, null_scores], -1).softmax(-1)
        attended = torch.einsum("bhts,bsd->btdh", weights[..., :-1], x_BTD)
        null = weights[..., -1].transpose(1, 2)[:, :, None].expand(-1, -1, pitches, -1)
        context = torch.cat([h, e, numbers, attended, null], -1)
        below = F.pad(x_BTD, (13, -1)).unfold(-1, 13, 1)
        n, _ = self.note(torch.cat([context, below], -1).flatten(0, 1))
        n = self.dropout(n.unflatten(0, (rows, steps)))
        logit = self.logit(torch.cat([n, context], -1)).squeeze(-1)
        nll = F.binary_cross_entropy_with_logits(logit, x_BTD, reduction="none").sum(-1)
        return (nll * mask_BT).sum() / mask_BT.sum()


Contestant = tuple[nn.Module, Callable[[RollBatch], Any], bool]
"""A module, its loss, and whether it computes in bfloat16."""


def cpu_seconds(contestants: dict[str, Contestant], batches: list[RollBatch]) -> dict[str, float]:
    """Median CPU seconds per frame of each contestant, forward and backward, in alternation.

    The first two rounds are a warm-up. CPU seconds, because other processes on the machine affect
    them less.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for batch in batches:
        for name, (module, loss, half) in contestants.items():
            module.train()
            start = time.process_time()
            module.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                value = loss(batch)
            (value["nll"] if isinstance(value, dict) else value).backward()
            seconds[name].append((time.process_time() - start) / int(batch.mask_BT.sum()))
    return {name: statistics.median(each[2:]) for name, each in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=12)
    parser.add_argument("--frames", type=int, default=256)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--data", choices=COLUMNS, default="JSB_Chorales")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)
    data = RollBenchmark(settings.data, chunk_length=512, batch_size=2)
    data.setup()
    batches = list(islice(iter(data.train_dataloader()), settings.updates + 2))

    torch.manual_seed(1)
    full = BiaxialLSTM(Rolls(88)).eval()
    plain = Plain(full).eval()
    plain.copy_weights(full)
    with torch.no_grad():
        ours, theirs = float(full.losses(batches[0])["nll"]), float(plain.loss(batches[0]))
    assert abs(ours - theirs) < 1e-4, (ours, theirs)
    print(f"same loss: {ours:.5f} and {theirs:.5f} nats per frame")

    low, high = COLUMNS[settings.data]
    model = BiaxialLSTM(Rolls(88), data.codec, low=low, high=high)
    seconds = cpu_seconds({"plain PyTorch, 88 pitches": (plain, plain.loss, False)}, batches)
    keep_freed_memory()
    seconds |= cpu_seconds(
        {
            "plain PyTorch, freed memory kept": (plain, plain.loss, False),
            "musegen, 88 pitches": (full, full.losses, False),
            f"musegen, {high - low} pitches": (model, model.losses, False),
            f"musegen, {high - low} pitches, bf16-mixed": (model, model.losses, True),
        },
        batches,
    )
    base = next(iter(seconds.values()))
    for name, each in seconds.items():
        print(f"{name:<40} {1 / each:8,.0f} frames/s  {base / each:5.2f} ×")

    start = time.perf_counter()
    model.generate(8, length=settings.frames)
    print(f"8 pieces of {settings.frames} frames: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
