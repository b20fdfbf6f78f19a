"""Frames per second of training and of evaluating the tutorial's RNN-RBM, for several programs.

    python benchmarks/rnn_rbm_speed.py [threads=2] [rounds=5] [pytensor=DIR/bin/python]

`train.py model=rnn_rbm` with the tutorial's sizes, CD-15 and plain SGD, on chunks of 100 frames, 1
and 16 per update, against a plain PyTorch loop with the same equations (`nn.RNN`) and, if a Python
with PyTensor is given, the tutorial's algorithm, 1 chunk per update (`rnn_rbm_pytensor.py`, with
the environment of this process). The programs run in turn; the medians over the rounds are
compared. Frames are random, which takes as long as music. At the end: AIS of each frame's RBM.
"""

from __future__ import annotations

import sys
import tempfile
import time

import numpy as np
import torch
import torch.nn.functional as F
from rbm_speed import Stopwatch, compare, peer
from torch import nn

from musegen.cli import console
from musegen.config.instantiation import build_data, build_model, build_trainer
from musegen.config.overrides import compose_config
from musegen.config.resolve import resolve_config
from musegen.energy.conditional import ConditionalRBMs, estimate_log_prob
from musegen.runtime.memory import keep_freed_memory

VISIBLE, HIDDEN, RECURRENT, FRAMES, K, LR = 88, 150, 100, 100, 15, 0.001


def music(chunks: int) -> np.ndarray:
    """Random frames, (chunks, FRAMES, VISIBLE) uint8, about four notes per frame."""
    return (np.random.default_rng(0).random((chunks, FRAMES, VISIBLE)) < 0.05).astype(np.uint8)


def ours(chunks: int, batch_size: int) -> float:
    """musegen with everything that `train.py` uses: config, data, loggers, callbacks, Trainer.

    Without validation, since the other programs have none.
    """
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["experiment=rnn_rbm_nottingham_tutorial", f"data.batch_size={batch_size}",
                     "trainer.max_epochs=2", "trainer.limit_val_batches=0",
                     "trainer.num_sanity_val_steps=0", "callbacks.progress=null",
                     f"run_dir={folder}"]  # fmt: skip
        settings = resolve_config(compose_config(overrides))
        trainer, data = build_trainer(settings), build_data(settings)
        data.rolls = {split: list(music(chunks)) for split in ("train", "val", "test")}
        stopwatch = Stopwatch()
        trainer.callbacks.insert(0, stopwatch)
        trainer.fit(build_model(settings, data), datamodule=data)
    return chunks * FRAMES / stopwatch.seconds


def plain_loop(chunks: int, batch_size: int) -> float:
    """A plain PyTorch loop with the same equations: biases, chain, loss, monitor, update."""
    data_NTD = torch.from_numpy(music(chunks)).float()
    W = (torch.randn(VISIBLE, HIDDEN) * 0.01).requires_grad_()
    b_v, b_h = torch.zeros(VISIBLE, requires_grad=True), torch.zeros(HIDDEN, requires_grad=True)
    W_uv = (torch.randn(RECURRENT, VISIBLE) * 1e-4).requires_grad_()
    W_uh = (torch.randn(RECURRENT, HIDDEN) * 1e-4).requires_grad_()
    rnn = nn.RNN(VISIBLE, RECURRENT, batch_first=True)
    optimizer = torch.optim.SGD([W, b_v, b_h, W_uv, W_uh, *rnn.parameters()], lr=LR)
    total = torch.zeros(())

    started = time.perf_counter()
    for x_BTD in data_NTD.split(batch_size):
        u_BTR, _ = rnn(x_BTD)
        u_NR = F.pad(u_BTR[:, :-1], (0, 0, 1, 0)).flatten(0, 1)
        x_ND, bias_v_ND, bias_h_NH = x_BTD.flatten(0, 1), b_v + u_NR @ W_uv, b_h + u_NR @ W_uh
        with torch.no_grad():
            v_ND = x_ND
            for _ in range(K):
                h_NH = (torch.rand_like(bias_h_NH) < torch.sigmoid(v_ND @ W + bias_h_NH)).float()
                p_ND = torch.sigmoid(h_NH @ W.t() + bias_v_ND)
                v_ND = (torch.rand_like(p_ND) < p_ND).float()
            h_NH = (torch.rand_like(bias_h_NH) < torch.sigmoid(v_ND @ W + bias_h_NH)).float()
            logit_ND = h_NH @ W.t() + bias_v_ND
            total -= F.binary_cross_entropy_with_logits(logit_ND, x_ND, reduction="sum")

        def free_energy(v_ND: torch.Tensor, b_v_ND=bias_v_ND, b_h_NH=bias_h_NH) -> torch.Tensor:
            return -(v_ND * b_v_ND).sum() - F.softplus(v_ND @ W + b_h_NH).sum()

        loss = (free_energy(x_ND) - free_energy(v_ND)) / len(x_ND)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return chunks * FRAMES / (time.perf_counter() - started)


def annealed(frames: int, chains: int = 100, ais_steps: int = 1000) -> float:
    """Frames per second of AIS, each frame with its own RBM."""
    torch.manual_seed(0)
    x_ND = torch.from_numpy(music(1)[0][:frames]).float()
    biases = torch.randn(frames, VISIBLE) - 3, torch.randn(frames, HIDDEN)
    rbms = ConditionalRBMs(torch.randn(VISIBLE, HIDDEN) * 0.3, x_ND, *biases)
    started = time.perf_counter()
    estimate_log_prob(rbms, chains, ais_steps, torch.Generator().manual_seed(0))
    return frames / (time.perf_counter() - started)


def main() -> None:
    console.quiet()
    keep_freed_memory()
    settings = console.key_values(sys.argv[1:])
    threads, rounds = int(settings.get("threads", 2)), int(settings.get("rounds", 5))
    torch.set_num_threads(threads)
    print(f"{threads} threads, torch {torch.__version__}")
    one_chunk = {
        "musegen, 1 chunk": lambda: ours(300, 1),
        "plain PyTorch loop, 1 chunk": lambda: plain_loop(300, 1),
    }
    sixteen_chunks = {
        "musegen, 16 chunks": lambda: ours(960, 16),
        "plain PyTorch loop, 16 chunks": lambda: plain_loop(960, 16),
    }
    if python := settings.get("pytensor"):
        tutorial = {"tutorial in PyTensor, 1 chunk": lambda: peer(
            "rnn_rbm_pytensor.py", 100, str(python))}  # fmt: skip
        one_chunk, sixteen_chunks = one_chunk | tutorial, sixteen_chunks | tutorial
    compare("CD-15, 1 chunk per update", one_chunk, rounds, "frames")
    compare("CD-15, 16 chunks per update", sixteen_chunks, rounds, "frames")
    print(f"\nAIS, 100 chains × 1000 steps: {annealed(40):.1f} frames/s")


if __name__ == "__main__":
    main()
