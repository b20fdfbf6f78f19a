"""The deep learning tutorial's rnnrbm.py, CD-15 on chunks of 100 frames, for PyTensor; frames/s.

    python -m venv DIR && DIR/bin/pip install pytensor mkl
    LIBRARY_PATH=DIR/lib LD_LIBRARY_PATH=DIR/lib DIR/bin/python benchmarks/rnn_rbm_pytensor.py

Needs neither musegen nor data: random frames take as long as music.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.tensor.random.utils import RandomStream

VISIBLE, HIDDEN, RECURRENT, FRAMES, K, LR = 88, 150, 100, 100, 15, 0.001


def training_function():
    """One update on a chunk, as the tutorial compiles it: returns the monitor."""
    rng, streams = np.random.default_rng(0), RandomStream(1)

    def weights(rows: int, columns: int, std: float):
        return pytensor.shared(rng.normal(0, std, (rows, columns)).astype("float32"))

    def zeros(size: int):
        return pytensor.shared(np.zeros(size, "float32"))

    W = weights(VISIBLE, HIDDEN, 0.01)
    W_uh, W_uv = weights(RECURRENT, HIDDEN, 0.0001), weights(RECURRENT, VISIBLE, 0.0001)
    W_vu, W_uu = weights(VISIBLE, RECURRENT, 0.0001), weights(RECURRENT, RECURRENT, 0.0001)
    b_v, b_h, b_u = zeros(VISIBLE), zeros(HIDDEN), zeros(RECURRENT)
    v = pt.fmatrix()

    def recurrence(v_t, u_before):
        u_t = pt.tanh(b_u + pt.dot(v_t, W_vu) + pt.dot(u_before, W_uu))
        return u_t, b_v + pt.dot(u_before, W_uv), b_h + pt.dot(u_before, W_uh)

    _, b_v_t, b_h_t = pytensor.scan(
        recurrence,
        sequences=v,
        outputs_info=[pt.zeros(RECURRENT, dtype="float32"), None, None],
        return_updates=False,
    )

    def sampled(p):
        return pt.cast(streams.binomial(1, p), "float32")

    def step(v):
        h = sampled(pt.sigmoid(pt.dot(v, W) + b_h_t))
        mean_v = pt.sigmoid(pt.dot(h, W.T) + b_v_t)
        return mean_v, sampled(mean_v)

    end = v
    for _ in range(K):  # unrolled, which is faster here than the tutorial's scan
        _, end = step(end)
    mean_v, _ = step(end)
    monitor = (v * pt.log(mean_v) + (1 - v) * pt.log(1 - mean_v)).sum() / v.shape[0]

    def free_energy(v):
        return -(v * b_v_t).sum() - pt.softplus(pt.dot(v, W) + b_h_t).sum()

    cost = (free_energy(v) - free_energy(end)) / v.shape[0]
    weights_and_biases = [W, b_v, b_h, W_uh, W_uv, W_vu, W_uu, b_u]
    gradients = pt.grad(cost, weights_and_biases, consider_constant=[end])
    updates = {
        p: p - np.float32(LR) * g for p, g in zip(weights_and_biases, gradients, strict=True)
    }
    return pytensor.function([v], monitor, updates=updates | dict(streams.updates()))


def main() -> None:
    pytensor.config.floatX = "float32"
    chunks = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    frames_NTD = np.random.default_rng(0).random((chunks, FRAMES, VISIBLE)) < 0.05
    data = frames_NTD.astype("float32")
    train = training_function()
    for v in data[:5]:
        train(v)
    started = time.perf_counter()
    for v in data:
        train(v)
    print(chunks * FRAMES / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
