"""The n-gram baseline of texts, in the same units and on the same classes as the network."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from musegen.metrics.ngram import best_ngram

MAX_ORDER = 6


def assess(data: Any) -> dict[str, float]:
    """Bits per character of the test split for orders 1 to 6, and of the order that validation
    picks; `data.coded(split)` gives a split's texts as classes.
    """
    train, val, test = (data.coded(s) for s in ("train", "val", "test"))
    size = data.spec.vocab_size
    model, order = best_ngram(train, val, [[size] * len(t) for t in val], MAX_ORDER)
    nats = np.concatenate([model.nats(t, [size] * len(t)) for t in test], axis=1).mean(1)
    bits = nats / math.log(2)
    figures = {f"ngram{k}_bits": float(bits[k - 1]) for k in range(1, MAX_ORDER + 1)}
    return figures | {"ngram_order": order, "ngram_bits": float(bits[order - 1])}
