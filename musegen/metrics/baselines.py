"""What a trained model has to beat on the test split: simple models of the same data.

Their figures are named `<baseline>_<figure>`, after the figure of the model they stand beside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from musegen.codecs.messages import FIELDS
from musegen.contracts import Frames, Messages, Rolls, Spec, Tokens
from musegen.metrics import roll_baselines
from musegen.metrics.ngram import best_ngram

MAX_ORDER = 6
SPOKEN = {
    "unigram": "unigram",
    "ngram": "best n-gram",
    **{f"ngram{k}": f"{k}-gram" for k in range(1, MAX_ORDER + 1)},
    "random": "random",
    "note_1gram": "note 1-gram",
    "note_ngram": "best note n-gram",
    "base_rate": "independent units",
}
"""Baselines by name, as a person reads them; after the name and an underscore comes the figure."""


def of_texts(data: Any) -> dict[str, float]:
    """Bits per character of n-grams of orders 1 to 6, and of the order that validation picks."""
    train, val, test = (data.coded(s) for s in ("train", "val", "test"))
    size = data.spec.vocab_size
    model, order = best_ngram(train, val, size, MAX_ORDER)
    bits = model.nats(test, size).mean(1) / math.log(2)
    figures = {f"ngram{k}_bits": float(bits[k - 1]) for k in range(1, MAX_ORDER + 1)}
    return figures | {"ngram_bits": float(bits[order - 1]), "ngram_order": order}


def of_messages(data: Any) -> dict[str, float]:
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
    figures: dict[str, float] = {}
    for name, of_fields in (("unigram", nats[0]), ("ngram", nats[order - 1])):
        figures[f"{name}_nats"] = float(of_fields.sum())
        figures |= {f"{name}_{f}": float(n) for f, n in zip(FIELDS, of_fields, strict=True)}
    return figures | {"ngram_order": order}


def of_rolls(data: Any) -> dict[str, float]:
    """Nats and accuracy (percent) per frame of models that take each note by itself."""
    found, order = roll_baselines.baselines(data.rolls)
    figures: dict[str, float] = {}
    for name, (nats, accuracy) in found.items():
        figures |= {f"{name}_log_likelihood": nats, f"{name}_accuracy": 100 * accuracy}
    return figures | {"note_ngram_order": order}


def of_frames(data: Any) -> dict[str, float]:
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


OF: dict[type[Spec], Callable[[Any], dict[str, float]]] = {
    Tokens: of_texts,
    Messages: of_messages,
    Rolls: of_rolls,
    Frames: of_frames,
}
"""Of labelled texts the n-gram is read name by name beside the network (`metrics.names`)."""


def baselines(data: Any) -> dict[str, float]:
    """The test figures of the baselines for this kind of data, after `data.setup()`.

    They learn from the data's own training split, and n-grams choose their order on validation.
    """
    return OF[type(data.spec)](data) if type(data.spec) in OF else {}


def in_order(figures: Iterable[str]) -> list[tuple[str, str, str]]:
    """(name, figure, baseline) of each: below a model's figure, whose baseline is "", those of
    the baselines; what only baselines have comes last."""
    names = list(figures)
    parted = {name: _parted(name) for name in names}
    own = [name for name in names if not parted[name][0]]
    rows = []
    for figure in own:
        rows.append((figure, figure, ""))
        rows += [(name, figure, b) for name, (b, of) in parted.items() if b and of == figure]
    shown = {name for name, _, _ in rows}
    return rows + [(n, of, b) for n, (b, of) in parted.items() if n not in shown]


def _parted(name: str) -> tuple[str, str]:
    """`ngram_bits` → (ngram, bits); a model's own figure has no baseline."""
    for baseline in SPOKEN:
        if name.startswith(f"{baseline}_"):
            return baseline, name.removeprefix(f"{baseline}_")
    return "", name
