"""An n-gram model of the training texts, mixed into a character model.

    p(x | text, label) = (1 − γ) p_net(x | text, label) + γ P(x | last 5 characters, label)

P is the 6-gram of the label's training texts (`NGram`). A network that is regularised enough to
predict new names smooths over what occurred only once or twice, and an n-gram does not: their
errors differ. After the cache model (Kuhn & De Mori 1990) and the mixtures of n-gram and neural
language models (Neubig & Dyer 2016).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from musegen.baselines.ngram import NGram
from musegen.specs import LabelledTokenBatch, TokenBatch

ORDER = 6
DISCOUNT = 0.6
MAX_CACHED = 4_000_000
"""Values of P cached at most. Validation needs the same contexts in every epoch."""
Context = tuple[int, ...]
"""A label (0 without labels), then the last 5 classes of the text, fewer at its start."""


class TextNGram(nn.Module):
    """The n-gram model and its texts, which are saved in the model's `state_dict`.

    - weight: γ, in (0, 1). choices: V, the number of classes.

    It is fitted by counting, and does not change the network's training. For a label without
    texts, and before `fit`, P is 1/V.
    """

    def __init__(self, weight: float, choices: int) -> None:
        super().__init__()
        self.weight, self.choices = weight, choices
        self.fit([], [])

    def fit(self, rows: Iterable[Sequence[int]], labels: Iterable[int]) -> None:
        """Fit to these encoded texts and their labels, replacing all earlier ones."""
        self.texts = [
            (label, [int(x) for x in row]) for row, label in zip(rows, labels, strict=True)
        ]
        self._ngram_by_label = {
            label: NGram(ORDER, DISCOUNT).fit(row for i, row in self.texts if i == label)
            for label in {i for i, _ in self.texts}
        }
        self._cache: dict[Context, np.ndarray] = {}

    def mixture(self, logits_NV: Tensor, contexts: Iterable[Context]) -> Tensor:
        """log p_NV from the network's logits_NV and the N contexts."""
        # bfloat16 has three significant digits, too few for a mixture.
        exact = torch.promote_types(logits_NV.dtype, torch.float32)
        network_NV = logits_NV.softmax(-1, dtype=exact)
        ngram_NV = torch.from_numpy(np.stack([self._distribution(c) for c in contexts]))
        return network_NV.lerp(ngram_NV.to(network_NV), self.weight).log()

    def _distribution(self, context: Context) -> np.ndarray:
        """P(· | context), (V,)."""
        if context not in self._cache:
            if len(self._cache) * self.choices >= MAX_CACHED:
                self._cache.clear()
            label, *last = context
            ngram = self._ngram_by_label.get(label) or NGram(ORDER, DISCOUNT)
            self._cache[context] = ngram.distribution(last, self.choices)
        return self._cache[context]

    def get_extra_state(self) -> dict[str, Any]:
        """The texts and labels as plain lists, from which `fit` restores the rest."""
        return {"texts": [row for _, row in self.texts], "labels": [i for i, _ in self.texts]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.fit(state["texts"], state["labels"])


def contexts(batch: TokenBatch | LabelledTokenBatch) -> Iterator[Context]:
    """The context of each position of a batch's mask, in the order of `x_BT[mask_BT]`."""
    labels = batch.label_B.tolist() if isinstance(batch, LabelledTokenBatch) else None
    x_BL = batch.x_BL.tolist()
    for b, t in batch.mask_BT.nonzero().tolist():  # True for the inputs of a text window
        yield (labels[b] if labels else 0, *x_BL[b][max(1, t - ORDER + 2) : t + 1])


def contexts_after(drawn: Sequence[Tensor], labels: Sequence[int]) -> Iterator[Context]:
    """The context of the next class of each of B texts; `drawn` has their classes x_B per step."""
    steps = [x_B.tolist() for x_B in drawn[1 - ORDER :]]
    for b, label in enumerate(labels):
        yield (label, *(x[b] for x in steps))
