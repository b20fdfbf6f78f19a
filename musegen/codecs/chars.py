"""Texts ↔ sequences of character classes. The codec contains its vocabulary."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from musegen.codecs.labels import Labels, check_labels, label_class
from musegen.constraints import check_fields
from musegen.errors import UserError
from musegen.specs import LabelledTokenBatch, LabelledTokens, TokenBatch, Tokens

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""The character that the class of unknown characters decodes to."""


@dataclass(frozen=True)
class CharCodec:
    """Characters ↔ classes 0 … V−1. The class V, "before the text", is an input only.

    - symbols: the characters, in the order of their classes.
    - unknown: one more class for every other character. Without it they raise an error.
    - end: a last class that ends a text. Continuous text has none.
    - labels: the names of the labels, for labelled texts.
    - ascii: remove diacritics, then leave out every character outside ASCII.

    The symbols "01" with an end give the course's classes 0, 1, 2 = end and 3 = start.
    `decode(encode(x))` equals `quantise(x)`. Raises `UserError` for a repeated symbol or label and
    for empty symbols.
    """

    symbols: str
    unknown: bool = True
    end: bool = True
    labels: Labels = None
    ascii: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        check_labels(self.labels)
        if not self.symbols or len(set(self.symbols)) != len(self.symbols):
            raise UserError(f"symbols={self.symbols!r}: should have a symbol and not repeat one")

    @classmethod
    def of(cls, texts: Iterable[str], min_count: int = 1, **settings: Any) -> CharCodec:
        """The codec whose symbols are the characters that occur at least `min_count` times.

        If no character of the texts occurs so often, the symbols are all their characters.
        """
        counts = Counter(c for text in texts for c in normalise(text, settings.get("ascii", False)))
        counts.pop(REPLACEMENT, None)
        frequent = [c for c, n in counts.items() if n >= min_count]
        return cls("".join(sorted(frequent or counts)), **settings)

    @property
    def size(self) -> int:
        """V, the number of classes that a model predicts."""
        return len(self.symbols) + self.unknown + self.end

    @property
    def spec(self) -> Tokens | LabelledTokens:
        """The numbers of classes and labels."""
        if self.labels is None:
            return Tokens(self.size)
        return LabelledTokens(self.size, len(self.labels))

    @property
    def start_class(self) -> int:
        """The class before every text, which is an input only."""
        return self.size

    @property
    def end_class(self) -> int | None:
        """The class that ends a text, if there is one."""
        return self.size - 1 if self.end else None

    @property
    def unknown_class(self) -> int | None:
        """The class of all characters outside the symbols, if there is one."""
        return len(self.symbols) if self.unknown else None

    def to_dict(self) -> dict[str, Any]:
        """Plain settings for a checkpoint; `CharCodec(**plain)` is the inverse."""
        return {**asdict(self), "labels": None if self.labels is None else list(self.labels)}

    def encode(self, text: str) -> np.ndarray:
        """Text → its classes and, if there is one, the end class; int64.

        Raises `UserError` for an unknown character if there is no class for them.
        """
        text = normalise(text, self.ascii)
        unknown = self.unknown_class
        if unknown is None and (strange := set(text) - set(self.symbols)):
            raise UserError(f"{min(strange)!r} is not one of the symbols {self.symbols!r}")
        classes = [self._class.get(c, unknown) for c in text]
        return np.array([*classes, self.end_class] if self.end else classes, np.int64)

    def batch(
        self, rows: Sequence[np.ndarray], labels: Sequence[int] | None = None
    ) -> TokenBatch | LabelledTokenBatch:
        """Encoded texts as one batch: each after its start class, padded to the longest."""
        lengths_B = np.array([len(r) for r in rows])
        mask_BT = np.arange(lengths_B.max(initial=0)) < lengths_B[:, None]
        x_BL = np.full((len(rows), mask_BT.shape[1] + 1), self.start_class, np.int64)
        x_BL[:, 1:][mask_BT] = np.concatenate(rows)
        x, mask = torch.from_numpy(x_BL), torch.from_numpy(mask_BT)
        if labels is None:
            return TokenBatch(x, mask)
        return LabelledTokenBatch(x, mask, torch.as_tensor(labels, dtype=torch.int64))

    def decode(self, classes: Iterable[int]) -> str:
        """Any classes → text, up to the first end class. Start classes are left out."""
        table = [*self.symbols, *[REPLACEMENT] * self.unknown]
        text = []
        for c in classes:
            if c == self.end_class:
                break
            if c != self.start_class:
                text.append(table[c])
        return "".join(text)

    def quantise(self, text: str) -> str:
        """The normalised text with unknown characters replaced."""
        return "".join(c if c in self._class else REPLACEMENT for c in normalise(text, self.ascii))

    def label_class(self, label: str) -> int:
        """The class of a label. Raises `UserError` with the closest known labels."""
        return label_class(self.labels, label)

    @cached_property
    def _class(self) -> dict[str, int]:
        return {c: i for i, c in enumerate(self.symbols)}


def normalise(text: str, ascii: bool = False) -> str:
    """The text in Unicode's NFC form, or with `ascii` without diacritics.

    With `ascii`, characters without an ASCII base letter are left out (ß, Cyrillic).
    """
    if not ascii:
        return unicodedata.normalize("NFC", text)
    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
