"""The baselines of each kind of data, with their metrics on the test split.

Their metrics are named `<baseline>_<metric>`, where `<metric>` is the model's metric to compare.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from musegen.baselines import note_ngram
from musegen.baselines.ngram import best_ngram
from musegen.codecs.messages import FIELDS
from musegen.runtime.random_streams import Stream, random_stream
from musegen.specs import Frames, LabelledMessages, Messages, Rolls, Spec, Tokens

MAX_ORDER = 6
MAX_MESSAGES = {"train": 1_000_000, "val": 100_000, "test": 200_000}
MAX_FRAMES = {"train": 1_000_000, "val": 200_000, "test": 200_000}
"""What baselines read of a split at most: random pieces until they have so many messages or frames.
Their time and memory are then the same for all larger data sets."""
BASELINE_NAMES = {
    "unigram": "unigram",
    "ngram": "best n-gram",
    **{f"ngram{k}": f"{k}-gram" for k in range(1, MAX_ORDER + 1)},
    "random": "random",
    "note_1gram": "note 1-gram",
    "note_ngram": "best note n-gram",
    "base_rate": "independent units",
}
"""The labels of the baselines by name."""


class Part(NamedTuple):
    """Random pieces of a split: their places in it, in order, and how many there are."""

    indices: list[int]
    pieces: list[Any]
    total: int


def random_part(pieces: Sequence[Any], at_most: int) -> Part:
    """All pieces, or random ones until they have `at_most` elements; at least one."""
    chosen: dict[int, Any] = {}
    elements = 0
    for i in random_stream(Stream.BASELINES, 0, 1).permutation(len(pieces)).tolist():
        chosen[i] = pieces[i]
        elements += len(chosen[i])
        if elements >= at_most:
            break
    indices = sorted(chosen)
    return Part(indices, [chosen[i] for i in indices], len(pieces))


def say_parts(unit: str, parts: dict[str, Part]) -> None:
    """Print how much of each split the baselines read, unless they read everything."""
    if all(len(part.pieces) == part.total for part in parts.values()):
        return
    read = [
        f"{len(part.pieces):,} of {part.total:,} {split} pieces "
        f"({sum(map(len, part.pieces)):,} {unit})"
        for split, part in parts.items()
    ]
    print(f"baselines read a random part: {', '.join(read)}")


def text_baselines(data: Any) -> dict[str, float]:
    """Bits per character of n-grams of orders 1 to 6, and of the best order on validation."""
    train, val, test = (data.coded(s) for s in ("train", "val", "test"))
    size = data.spec.vocab_size
    model, order = best_ngram(train, val, size, MAX_ORDER)
    bits = model.nll(test, size).mean(1) / math.log(2)
    metrics = {f"ngram{k}_bpc": float(bits[k - 1]) for k in range(1, MAX_ORDER + 1)}
    return metrics | {"ngram_bpc": float(bits[order - 1]), "ngram_order": order}


def message_baselines(data: Any) -> dict[str, float]:
    """Nats per message and field of a unigram per field, and of an n-gram over the sequence of all
    fields (each given the preceding ones) with the best order on validation.

    Of labelled messages also those of each label, by the same models.
    """
    sizes = np.array(data.spec.sizes)
    # Each piece is one sequence of classes. The offsets give every field its own classes.
    offsets = np.cumsum([0, *sizes[:-1]])
    chosen = {s: random_part(data.coded(s), most) for s, most in MAX_MESSAGES.items()}
    say_parts("messages", chosen)
    rows = {s: [(c + offsets).ravel() for c in part.pieces] for s, part in chosen.items()}
    choices = {s: [np.resize(sizes, len(row)) for row in rows[s]] for s in ("val", "test")}
    model, order = best_ngram(
        rows["train"], rows["val"], choices["val"], MAX_ORDER, period=len(FIELDS)
    )
    nll_ONF = model.nll(rows["test"], choices["test"]).reshape(MAX_ORDER, -1, len(FIELDS))
    metrics: dict[str, float] = {}
    for suffix, of_label_N in _messages_by_label(data, chosen["test"]).items():
        nll_OF = nll_ONF[:, of_label_N].mean(1)
        for name, nll_F in (("unigram", nll_OF[0]), ("ngram", nll_OF[order - 1])):
            metrics[f"{name}_nll{suffix}"] = float(nll_F.sum())
            metrics |= {f"{name}_{f}{suffix}": float(n) for f, n in zip(FIELDS, nll_F, strict=True)}
    return metrics | {"ngram_order": order}


def _messages_by_label(data: Any, test: Part) -> dict[str, slice | np.ndarray]:
    """The test messages of each metric's suffix: all for "", and those of each "/label"."""
    if not isinstance(data.spec, LabelledMessages):
        return {"": slice(None)}
    labels = np.asarray(data.labels["test"])[test.indices]
    label_N = np.repeat(labels, [len(piece) for piece in test.pieces])
    return {"": slice(None)} | {
        f"/{name}": label_N == i for i, name in enumerate(data.codec.labels) if i in label_N
    }


def roll_baselines(data: Any) -> dict[str, float]:
    """Nats and accuracy (fraction) per frame of models with independent notes."""
    chosen = {s: random_part(data.rolls[s], most) for s, most in MAX_FRAMES.items()}
    say_parts("frames", chosen)
    results, order = note_ngram.baselines({s: part.pieces for s, part in chosen.items()})
    metrics: dict[str, float] = {}
    for name, (log_likelihood, accuracy) in results.items():
        metrics |= {f"{name}_log_likelihood": log_likelihood, f"{name}_accuracy": accuracy}
    return metrics | {"note_ngram_order": order}


def frame_baselines(data: Any) -> dict[str, float]:
    """Nats per example of independent units with the training split's frequencies.

    p_d = (n_d + 1) / (n + 2), where n_d counts the examples in which unit d is on. Values between
    0 and 1 are probabilities. For the pseudo-likelihood, which equals the likelihood if units are
    independent, they are rounded, as for an RBM.
    """
    on_D, n = torch.zeros(data.spec.dim, dtype=torch.float64), 0
    for batch in data.train_dataloader():
        on_D, n = on_D + batch.x_BD.double().sum(0), n + len(batch.x_BD)
    p_D = (on_D + 1) / (n + 2)
    logit_D, log_off = p_D.logit(), (1 - p_D).log().sum()
    x_ND = torch.cat([batch.x_BD.double() for batch in data.test_dataloader()])
    inputs = {"log_likelihood": x_ND, "pseudo_likelihood": x_ND.round()}
    return {f"base_rate_{k}": float((x @ logit_D).mean() + log_off) for k, x in inputs.items()}


BASELINES: dict[type[Spec], Callable[[Any], dict[str, float]]] = {
    Tokens: text_baselines,
    Messages: message_baselines,
    LabelledMessages: message_baselines,
    Rolls: roll_baselines,
    Frames: frame_baselines,
}
"""`baselines.name_quality` compares models of labelled texts with an n-gram, name by name."""


def baselines(data: Any) -> dict[str, float]:
    """The test metrics of the baselines for this kind of data. Call `data.setup()` before.

    They are fitted to the training split, and n-grams use the best order on validation.
    """
    return BASELINES[type(data.spec)](data) if type(data.spec) in BASELINES else {}


def with_baselines(metrics: Iterable[str]) -> list[tuple[str, str, str]]:
    """(name, metric, baseline) of each: after a model's metric, whose baseline is "", the same
    metric of the baselines. Metrics that only baselines have are last."""
    names = list(metrics)
    split = {name: _split_name(name) for name in names}
    rows = []
    for metric in names:
        if split[metric][0]:
            continue
        rows.append((metric, metric, ""))
        rows += [(name, metric, b) for name, (b, m) in split.items() if b and m == metric]
    listed = {name for name, _, _ in rows}
    return rows + [(name, m, b) for name, (b, m) in split.items() if name not in listed]


def _split_name(name: str) -> tuple[str, str]:
    """`ngram_bpc` → ("ngram", "bpc"). The baseline of a model's own metric is ""."""
    for baseline in BASELINE_NAMES:
        if name.startswith(f"{baseline}_"):
            return baseline, name.removeprefix(f"{baseline}_")
    return "", name
