"""The weights of a trained model for data with a part of its classes: pitches, symbols, labels.

A weight belongs to a class, not to its number. If the classes of the new data are a part of the
old ones, the weights of those classes are selected. The new model is then the old one without the
other classes, except that the probabilities of those left are normalised again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from musegen.codecs.chars import CharCodec
from musegen.codecs.labels import Labels
from musegen.codecs.messages import MessageCodec
from musegen.errors import UserError

Weights = dict[str, Tensor]
Selection = dict[str, dict[int, list[int]]]
"""The name of a weight → dimension → the indices that are selected."""


def select_messages(weights: Weights, old: MessageCodec, new: MessageCodec) -> Weights:
    """The weights of an `LSTMMidi` with the codec `old`, for one with the codec `new`.

    Raises `UserError` if `new` has pitches or labels that `old` lacks, if any other setting of the
    codecs differs, except those that change no class (`sustain`, `tempo`, `program`), and for other
    pitches of a model with one-hot inputs.
    """
    free = ("pitch_range", "labels", "sustain", "tempo", "program")
    _check_equal(old.to_dict(), new.to_dict(), but=free)
    (old_low, old_high), (low, high) = old.pitch_range, new.pitch_range
    if low < old_low or high > old_high:
        raise _not_a_part("pitch_range", [old_low, old_high], [low, high])
    pitches = old_high - old_low
    one_hot = weights["embed.0.weight"].shape[1] == pitches + 1
    if one_hot and new.pitch_range != old.pitch_range:
        raise UserError(
            f"its data has pitch_range={[old_low, old_high]}, but this run's has {[low, high]}; a "
            "model with model.embedding=null keeps its pitches"
        )
    notes = list(range(low - old_low, high - old_low))
    inputs = [*notes, pitches]  # with the class "before the piece"
    active = [*notes, *(pitches + i for i in notes)]
    outputs = {0: [*notes, *range(pitches, len(_heads_bias(weights)))]}
    selection: Selection = {
        "embed.0.weight": {0: inputs},
        "embed_match.tables.1.weight": {0: inputs},
        "embed_active.weight": {1: active},
        **{f"heads.{layer}.{p}": outputs for layer in ("from_state", "out")
           for p in ("weight", "bias")},
        "heads.note_for_velocity.weight": {0: notes},
        "heads.note_for_time.weight": {0: notes},
        "heads.active_for_note.weight": {0: notes, 1: active},
    }  # fmt: skip
    return _select(_select_labels(weights, "lstm", old.labels, new.labels), selection)


def select_texts(weights: Weights, old: CharCodec, new: CharCodec) -> Weights:
    """The weights of a `CharRNN` with the codec `old`, for one with the codec `new`.

    Raises `UserError` if `new` has symbols, labels or a class of unknown characters or of the end
    that `old` lacks.
    """
    if missing := [s for s in new.symbols if s not in old.symbols]:
        raise UserError(
            f"its symbols {old.symbols!r} lack {''.join(missing)!r} of this run's data; a codec "
            "cannot grow"
        )
    classes = [old.symbols.index(s) for s in new.symbols]
    for name in ("unknown", "end"):
        if getattr(new, name):
            if not getattr(old, name):
                raise _not_a_part(name, False, True)
            classes.append(getattr(old, f"{name}_class"))
    selection: Selection = {
        "embed.weight": {0: [*classes, old.start_class]},
        "out.weight": {0: classes},
        "out.bias": {0: classes},
    }
    return _select(_select_labels(weights, "cells", old.labels, new.labels), selection)


def _select_labels(weights: Weights, cells: str, old: Labels, new: Labels) -> Weights:
    """The embeddings of the new labels, by their names.

    Without new labels, the mean of the old embeddings becomes a part of the first layer's bias:
    W (x + L) + b = W x + (W L + b). So a piece without a label is read like one with a mean label.
    """
    if old is None and new is None:
        return weights
    if new is None:
        weights = dict(weights)
        mean_D = weights.pop("embed_label.weight").mean(0)
        bias = weights[f"{cells}.bias_ih_l0"]
        weights[f"{cells}.bias_ih_l0"] = bias + weights[f"{cells}.weight_ih_l0"] @ mean_D
        return weights
    if old is None or not set(new) <= set(old):
        raise _not_a_part("labels", None if old is None else list(old), list(new))
    return _select(weights, {"embed_label.weight": {0: [old.index(label) for label in new]}})


def _select(weights: Weights, selection: Selection) -> Weights:
    """The weights, of those in `selection` only the selected part."""
    result = dict(weights)
    for name in selection.keys() & weights.keys():
        for dim, indices in selection[name].items():
            result[name] = result[name].index_select(dim, torch.tensor(indices))
    return result


def _heads_bias(weights: Weights) -> Tensor:
    """The bias of the layer whose first outputs are the note's logits."""
    chained = "heads.from_state.bias" in weights
    return weights["heads.from_state.bias" if chained else "heads.out.bias"]


def _check_equal(old: dict[str, Any], new: dict[str, Any], but: tuple[str, ...]) -> None:
    for name in new:
        if name not in but and old.get(name) != new[name]:
            raise UserError(
                f"its data has codec.{name}={old.get(name)}, but this run's has {new[name]}; set "
                f"data.codec.{name}={old.get(name)}"
            )


def _not_a_part(name: str, old: Any, new: Any) -> UserError:
    return UserError(f"its data has {name}={old}, and this run's {name}={new} is not a part of it")
