"""Speed of the sparse NADE and of training an RNN-NADE, compared with plain PyTorch.

    python benchmarks/nade_speed.py [threads=2] [rounds=5]

First, frames per second of log p and its gradient: the sparse algorithm and the cumulative sum over
88 units, both of `musegen.models.layers.nade`. Then `train.py model=rnn_nade` with an LSTM and 16
chunks of 100 frames per update, and a bare PyTorch loop with the same equations. The contestants
alternate, and the medians over the rounds are compared. The frames are random, which takes as long
as music. Last, the seconds that 8 generated pieces of 256 frames take.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from rbm_speed import Stopwatch, compare
from torch import Tensor, nn

from musegen.cli import console
from musegen.codecs.roll_codec import RollCodec
from musegen.config.instantiation import build_data, build_model, build_trainer
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.models.layers.nade import NADE, bernoulli_log_prob
from musegen.models.rnn_nade import RNNNADE
from musegen.runtime.memory import keep_freed_memory
from musegen.specs import Rolls

VISIBLE, HIDDEN, RECURRENT, FRAMES, CHUNKS, BATCH = 88, 200, 256, 100, 320, 16


def random_frames(chunks: int) -> np.ndarray:
    """(chunks, FRAMES, VISIBLE) uint8, about four notes per frame."""
    return (np.random.default_rng(0).random((chunks, FRAMES, VISIBLE)) < 0.045).astype(np.uint8)


def log_prob_speed(sparse: bool, frames: int) -> float:
    """Frames per second of log p and its gradient in all weights and biases."""
    torch.manual_seed(0)
    nade, v_ND = NADE(VISIBLE, HIDDEN), torch.from_numpy(random_frames(frames // FRAMES)).float()
    v_ND = v_ND.flatten(0, 1)
    b_v_ND, b_h_NH = (torch.randn(len(v_ND), n).requires_grad_() for n in (VISIBLE, HIDDEN))
    logits: Callable[..., Tensor] = nade.sparse_logits if sparse else nade.dense_logits
    start = time.perf_counter()
    bernoulli_log_prob(v_ND, logits(v_ND, b_v_ND, b_h_NH)).sum().backward()
    return len(v_ND) / (time.perf_counter() - start)


def ours() -> float:
    """Frames per second of musegen: config, data module, loggers, callbacks and Trainer.

    Without validation, as in the bare loop.
    """
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["model=rnn_nade", "data=jsb", "model.cell=lstm", f"model.hidden={HIDDEN}",
                     f"model.recurrent={RECURRENT}", f"data.batch_size={BATCH}",
                     "trainer.max_epochs=3", "trainer.limit_val_batches=0",
                     "trainer.num_sanity_val_steps=0", "callbacks.progress=null",
                     "callbacks.samples=null", f"run_dir={folder}"]  # fmt: skip
        settings = resolve_config(compose_config(overrides))
        trainer, data = build_trainer(settings), build_data(settings)
        data.rolls = {split: list(random_frames(CHUNKS)) for split in ("train", "val", "test")}
        watch = Stopwatch()
        trainer.callbacks.insert(0, watch)
        trainer.fit(build_model(settings, data), datamodule=data)
    return CHUNKS * FRAMES / watch.seconds


def bare() -> float:
    """Frames per second of a minimal loop in PyTorch: LSTM, biases, log p, clipped update."""
    data_NTD = torch.from_numpy(random_frames(CHUNKS))
    lstm, nade = nn.LSTM(VISIBLE, RECURRENT, batch_first=True), NADE(VISIBLE, HIDDEN)
    to_v, to_h = nn.Linear(RECURRENT, VISIBLE), nn.Linear(RECURRENT, HIDDEN)
    weights = [p for part in (lstm, nade, to_v, to_h) for p in part.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=0.003, weight_decay=0.01, fused=True)

    start = time.perf_counter()
    for x_BTD in data_NTD.split(BATCH):
        x_BTD = x_BTD.float()
        u_BTR = F.pad(lstm(x_BTD)[0][:, :-1], (0, 0, 1, 0))
        v_ND, u_NR = x_BTD.flatten(0, 1), u_BTR.flatten(0, 1)
        loss = -nade.log_prob(v_ND, to_v(u_NR), to_h(u_NR)).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    return CHUNKS * FRAMES / (time.perf_counter() - start)


def generation_seconds() -> float:
    """Seconds for 8 pieces of 256 frames, by a model with attention, note ages and clock."""
    torch.manual_seed(0)
    model = RNNNADE(Rolls(VISIBLE), RollCodec(), HIDDEN, RECURRENT, "lstm", attention_heads=4,
                    note_age=True, clock=True)  # fmt: skip
    start = time.perf_counter()
    model.generate(8, length=256)
    return time.perf_counter() - start


def main() -> None:
    console.quiet()
    keep_freed_memory()
    settings = console.key_values(sys.argv[1:])
    threads, rounds = int(settings.get("threads", 2)), int(settings.get("rounds", 5))
    torch.set_num_threads(threads)
    print(f"{threads} threads, torch {torch.__version__}")
    algorithms = {
        "sparse NADE": lambda: log_prob_speed(True, 2000),
        "dense NADE": lambda: log_prob_speed(False, 500),
    }
    compare("log p and gradient", algorithms, rounds, "frames")
    trainings = {"musegen": ours, "bare PyTorch loop": bare}
    compare("training an LSTM-NADE", trainings, rounds, "frames")
    print(f"\n8 pieces of 256 frames: {generation_seconds():.1f} s")


if __name__ == "__main__":
    main()
