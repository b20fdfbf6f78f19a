"""Texts ↔ rows of character classes, with the vocabulary frozen inside."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from musegen.errors import UserError, unknown_name
from musegen.specs import LabelledTokenBatch, LabelledTokens, TokenBatch, Tokens

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What an unknown character decodes to."""


@dataclass(frozen=True)
class CharCodec:
    """Characters ↔ classes 0 … V−1; the class V, before the text, is read but never predicted.

    - symbols: the characters, class by class.
    - unknown: a further class for every other character; without it they are refused.
    - end: a last class that ends a text. Running text has none.
    - labels: names of the labels, where texts carry one.
    - ascii: marks are stripped and what then lies outside ASCII is left out.

    With symbols "01" and an end these are the course's 0, 1, 2 = end and 3 = start.
    `decode(encode(x))` equals `quantise(x)`.
    """

    symbols: str
    unknown: bool = True
    end: bool = True
    labels: tuple[str, ...] | None = None
    ascii: bool = False

    def __post_init__(self) -> None:
        if self.labels is not None:
            object.__setattr__(self, "labels", tuple(self.labels))
            if len(set(self.labels)) != len(self.labels):
                raise UserError(f"labels={list(self.labels)}: some stand there twice")
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise UserError(f"symbols={self.symbols!r}: need at least one, none of them twice")

    @classmethod
    def of(cls, texts: Iterable[str], min_count: int = 1, **settings: Any) -> CharCodec:
        """The codec whose symbols are the texts' characters that occur `min_count` times.

        Texts too short to repeat any character so often keep them all.
        """
        counts = Counter(c for text in texts for c in normalise(text, settings.get("ascii", False)))
        counts.pop(REPLACEMENT, None)
        frequent = [c for c, n in counts.items() if n >= min_count]
        return cls("".join(sorted(frequent or counts)), **settings)

    @property
    def size(self) -> int:
        """V, the number of classes that can be predicted."""
        return len(self.symbols) + self.unknown + self.end

    @property
    def spec(self) -> Tokens | LabelledTokens:
        if self.labels is None:
            return Tokens(self.size)
        return LabelledTokens(self.size, len(self.labels))

    @property
    def start_class(self) -> int:
        """Stands before every text; read only."""
        return self.size

    @property
    def end_class(self) -> int | None:
        return self.size - 1 if self.end else None

    @property
    def unknown_class(self) -> int | None:
        return len(self.symbols) if self.unknown else None

    def to_dict(self) -> dict[str, Any]:
        """Plain settings for a checkpoint; `CharCodec(**plain)` is the inverse."""
        return {**asdict(self), "labels": None if self.labels is None else list(self.labels)}

    def encode(self, text: str) -> np.ndarray:
        """Text → its classes, then the end's where texts have one; int64.

        Raises `UserError` for a character without a class, if there is none for the unknown.
        """
        text = normalise(text, self.ascii)
        unknown = self.unknown_class
        if unknown is None and (strange := set(text) - set(self.symbols)):
            raise UserError(f"{min(strange)!r} is none of the symbols {self.symbols!r}")
        classes = [self._class.get(c, unknown) for c in text]
        return np.array([*classes, self.end_class] if self.end else classes, np.int64)

    def batch(
        self, rows: Sequence[np.ndarray], labels: Sequence[int] | None = None
    ) -> TokenBatch | LabelledTokenBatch:
        """Encoded texts, each as one row behind its start, padded to the longest."""
        lengths_B = np.array([len(r) for r in rows])
        mask_BT = np.arange(lengths_B.max(initial=0)) < lengths_B[:, None]
        x_BL = np.full((len(rows), mask_BT.shape[1] + 1), self.start_class, np.int64)
        x_BL[:, 1:][mask_BT] = np.concatenate(rows)
        x, mask = torch.from_numpy(x_BL), torch.from_numpy(mask_BT)
        if labels is None:
            return TokenBatch(x, mask)
        return LabelledTokenBatch(x, mask, torch.as_tensor(labels, dtype=torch.int64))

    def decode(self, classes: Iterable[int]) -> str:
        """Classes → text, up to the first end; any row of classes has one. Starts are silent."""
        table = [*self.symbols, *[REPLACEMENT] * self.unknown]
        text = []
        for c in classes:
            if c == self.end_class:
                break
            if c != self.start_class:
                text.append(table[c])
        return "".join(text)

    def quantise(self, text: str) -> str:
        """What remains of a text after coding."""
        return "".join(c if c in self._class else REPLACEMENT for c in normalise(text, self.ascii))

    def label_class(self, label: str) -> int:
        """The class of a label. Raises `UserError` that names the nearest labels there are."""
        known: Sequence[str] = self.labels or ()
        if label in known:
            return known.index(label)
        if not known:
            raise UserError(f"label={label}: this model was trained without labels")
        folded = {k.casefold(): i for i, k in enumerate(known)}
        if label.casefold() in folded:
            return folded[label.casefold()]
        raise unknown_name(f"label={label}", label.title(), known, "label")

    @cached_property
    def _class(self) -> dict[str, int]:
        return {c: i for i, c in enumerate(self.symbols)}


def normalise(text: str, ascii: bool = False) -> str:
    """One spelling of each text: Unicode's NFC, or its letters without marks.

    Folding leaves out what has no ASCII letter below its marks (ß, Cyrillic).
    """
    if not ascii:
        return unicodedata.normalize("NFC", text)
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
