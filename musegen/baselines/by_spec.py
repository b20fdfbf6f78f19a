"""What a trained model has to beat on the test split: simple models of the same data.

Their metrics are named `<baseline>_<metric>`, after the metric of the model they stand beside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from musegen.baselines import note_ngram
from musegen.baselines.ngram import best_ngram
from musegen.codecs.messages import FIELDS
from musegen.specs import Frames, Messages, Rolls, Spec, Tokens

MAX_ORDER = 6
BASELINE_NAMES = {
    "unigram": "unigram",
    "ngram": "best n-gram",
    **{f"ngram{k}": f"{k}-gram" for k in range(1, MAX_ORDER + 1)},
    "random": "random",
    "note_1gram": "note 1-gram",
    "note_ngram": "best note n-gram",
    "base_rate": "independent units",
}
"""Baselines by name, as a person reads them; after the name and an underscore comes the metric."""


def text_baselines(data: Any) -> dict[str, float]:
    """Bits per character of n-grams of orders 1 to 6, and of the order that validation picks."""
    train, val, test = (data.coded(s) for s in ("train", "val", "test"))
    size = data.spec.vocab_size
    model, order = best_ngram(train, val, size, MAX_ORDER)
    bits = model.nats(test, size).mean(1) / math.log(2)
    metrics = {f"ngram{k}_bpc": float(bits[k - 1]) for k in range(1, MAX_ORDER + 1)}
    return metrics | {"ngram_bpc": float(bits[order - 1]), "ngram_order": order}


def message_baselines(data: Any) -> dict[str, float]:
    """Nats per message and by field: each field's own frequencies, and the n-gram over the fields
    in their order (each given those before it), of the order that validation picks."""
    sizes = np.array(data.spec.sizes)
    # One row of classes a piece, the fields told apart.
    offsets = np.cumsum([0, *sizes[:-1]])
    rows = {s: [(c + offsets).ravel() for c in data.coded(s)] for s in ("train", "val", "test")}
    choices = {s: [np.resize(sizes, len(row)) for row in rows[s]] for s in ("val", "test")}
    model, order = best_ngram(
        rows["train"], rows["val"], choices["val"], MAX_ORDER, period=len(FIELDS)
    )
    nats = model.nats(rows["test"], choices["test"]).reshape(MAX_ORDER, -1, len(FIELDS)).mean(1)
    metrics: dict[str, float] = {}
    for name, of_fields in (("unigram", nats[0]), ("ngram", nats[order - 1])):
        metrics[f"{name}_nll"] = float(of_fields.sum())
        metrics |= {f"{name}_{f}": float(n) for f, n in zip(FIELDS, of_fields, strict=True)}
    return metrics | {"ngram_order": order}


def roll_baselines(data: Any) -> dict[str, float]:
    """Nats and accuracy (percent) per frame of models that take each note by itself."""
    found, order = note_ngram.baselines(data.rolls)
    metrics: dict[str, float] = {}
    for name, (nats, accuracy) in found.items():
        metrics |= {f"{name}_log_likelihood": nats, f"{name}_accuracy": 100 * accuracy}
    return metrics | {"note_ngram_order": order}


def frame_baselines(data: Any) -> dict[str, float]:
    """Nats per row of independent units that are on as often as in training.

    One is added to how often each was on, and off. Values between 0 and 1 are probabilities, and
    for the pseudo-likelihood, which of independent units is the likelihood, they are rounded: as
    for an RBM.
    """
    on_D, n = torch.zeros(data.spec.dim, dtype=torch.float64), 0
    for batch in data.train_dataloader():
        on_D, n = on_D + batch.x_BD.double().sum(0), n + len(batch.x_BD)
    p_D = (on_D + 1) / (n + 2)
    logit_D, log_off = p_D.logit(), (1 - p_D).log().sum()
    x_ND = torch.cat([batch.x_BD.double() for batch in data.test_dataloader()])
    read = {"log_likelihood": x_ND, "pseudo_likelihood": x_ND.round()}
    return {f"base_rate_{f}": float((x @ logit_D).mean() + log_off) for f, x in read.items()}


BASELINES: dict[type[Spec], Callable[[Any], dict[str, float]]] = {
    Tokens: text_baselines,
    Messages: message_baselines,
    Rolls: roll_baselines,
    Frames: frame_baselines,
}
"""Of labelled texts the n-gram is read name by name beside the network (`metrics.names`)."""


def baselines(data: Any) -> dict[str, float]:
    """The test metrics of the baselines for this kind of data, after `data.setup()`.

    They learn from the data's own training split, and n-grams choose their order on validation.
    """
    return BASELINES[type(data.spec)](data) if type(data.spec) in BASELINES else {}


def with_baselines(metrics: Iterable[str]) -> list[tuple[str, str, str]]:
    """(name, metric, baseline) of each: below a model's metric, whose baseline is "", those of
    the baselines; what only baselines have comes last."""
    names = list(metrics)
    parted = {name: _parted(name) for name in names}
    own = [name for name in names if not parted[name][0]]
    rows = []
    for metric in own:
        rows.append((metric, metric, ""))
        rows += [(name, metric, b) for name, (b, of) in parted.items() if b and of == metric]
    shown = {name for name, _, _ in rows}
    return rows + [(n, of, b) for n, (b, of) in parted.items() if n not in shown]


def _parted(name: str) -> tuple[str, str]:
    """`ngram_bpc` → (ngram, bits); a model's own metric has no baseline."""
    for baseline in BASELINE_NAMES:
        if name.startswith(f"{baseline}_"):
            return baseline, name.removeprefix(f"{baseline}_")
    return "", name
