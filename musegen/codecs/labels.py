"""Labels of texts and pieces: names ↔ classes 0 … n−1, in the order of the names."""

from __future__ import annotations

from musegen.errors import UserError, unknown_name

Labels = tuple[str, ...] | None
"""The names of a codec's labels; None for data without labels."""


def check_labels(labels: Labels) -> None:
    """Raise `UserError` for a repeated label, and for labels that are none."""
    if labels is not None and (not labels or len(set(labels)) != len(labels)):
        raise UserError(f"labels={list(labels)}: should have a label and not repeat one")


def label_class(labels: Labels, label: str) -> int:
    """The class of a label, in any case. Raises `UserError` with the closest known labels."""
    if labels is None:
        raise UserError(f"label={label}: this model was trained without labels")
    if label in labels:
        return labels.index(label)
    folded = {name.casefold(): i for i, name in enumerate(labels)}
    if label.casefold() in folded:
        return folded[label.casefold()]
    raise unknown_name(f"label={label}", label.title(), labels, "label")


def labels_to_generate(labels: Labels, label: str | None, n: int) -> list[int] | None:
    """The label class of each sample: n of `label`, or n of every label; None without labels.

    Raises `UserError` as `label_class` does.
    """
    if label is not None:
        return [label_class(labels, label)] * n
    return None if labels is None else [i for i in range(len(labels)) for _ in range(n)]
