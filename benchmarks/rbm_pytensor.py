"""The deep learning tutorial's rbm.py, PCD-15 at batch 20, for PyTensor; prints images per second.

    python -m venv DIR && DIR/bin/pip install pytensor && DIR/bin/python benchmarks/rbm_pytensor.py

Needs neither musegen nor data: random intensities take as long as digits.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.tensor.random.utils import RandomStream

VISIBLE, HIDDEN, BATCH, K, LR = 784, 500, 20, 15, 0.1


def training_function(data_ND: np.ndarray):
    """One update on batch i, as the tutorial compiles it: returns the monitor."""
    rng, streams = np.random.default_rng(0), RandomStream(1)
    bound = 4 * np.sqrt(6 / (VISIBLE + HIDDEN))
    W = pytensor.shared(rng.uniform(-bound, bound, (VISIBLE, HIDDEN)).astype("float32"))
    c = pytensor.shared(np.zeros(HIDDEN, "float32"))
    b = pytensor.shared(np.zeros(VISIBLE, "float32"))
    chain = pytensor.shared(np.zeros((BATCH, HIDDEN), "float32"))
    data, bit = pytensor.shared(data_ND), pytensor.shared(np.int64(0))
    i = pt.lscalar()
    x = data[i * BATCH : (i + 1) * BATCH]

    def free_energy(v):
        return -pt.dot(v, b) - pt.softplus(pt.dot(v, W) + c).sum(axis=1)

    def sampled(p):
        return pt.cast(streams.binomial(1, p), "float32")

    h = chain
    for _ in range(K):  # unrolled, which is faster here than the tutorial's scan
        v = sampled(pt.sigmoid(pt.dot(h, W.T) + b))
        h = sampled(pt.sigmoid(pt.dot(v, W) + c))
    cost = free_energy(x).mean() - free_energy(v).mean()
    gradients = pt.grad(cost, [W, c, b], consider_constant=[v])

    rounded = pt.round(x)
    flipped = pt.set_subtensor(rounded[:, bit], 1 - rounded[:, bit])
    monitor = (VISIBLE * pt.log(pt.sigmoid(free_energy(flipped) - free_energy(rounded)))).mean()
    updates = {p: p - np.float32(LR) * g for p, g in zip((W, c, b), gradients, strict=True)}
    updates |= {chain: h, bit: (bit + 1) % VISIBLE} | dict(streams.updates())
    return pytensor.function([i], monitor, updates=updates)


def main() -> None:
    pytensor.config.floatX = "float32"
    batches = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    data_ND = np.random.default_rng(0).random((batches * BATCH, VISIBLE), dtype=np.float32)
    train = training_function(data_ND)
    for i in range(5):
        train(i)
    started = time.perf_counter()
    for i in range(batches):
        train(i)
    print(batches * BATCH / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
