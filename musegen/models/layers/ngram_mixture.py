"""The n-gram inside a character model: what followed in the very texts that it was taught.

    p(x | text, label) = (1 − γ) p_net(x | text, label) + γ P(x | last 5 characters, label)

P is the 6-gram of the label's training texts (`NGram`). A net regularised enough to foresee new
names smooths over what it has seen only once or twice, and counts do the opposite: the two err in
different places. After the cache model (Kuhn & De Mori 1990) and the mixtures of counted and
neural language models (Neubig & Dyer 2016).
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
KEPT = 4_000_000
"""Numbers of P kept at most: validation asks for the same contexts in every epoch."""
Context = tuple[int, ...]
"""A label (0 where there is none), then the last 5 classes of the text, fewer at its beginning."""


class TextNGram(nn.Module):
    """The training texts, in the model's `state_dict`, and what followed in them.

    - share: γ, in (0, 1). choices: V, the number of classes.

    It is counted, not taught: the net's training does not notice it. For a label without texts,
    and before `learn`, P is 1/V.
    """

    def __init__(self, weight: float, choices: int) -> None:
        super().__init__()
        self.weight, self.choices = weight, choices
        self.fit([], [])

    def fit(self, rows: Iterable[Sequence[int]], labels: Iterable[int]) -> None:
        """Take these encoded texts and their labels in the place of all before."""
        self.texts = [
            (label, [int(x) for x in row]) for row, label in zip(rows, labels, strict=True)
        ]
        self._of_label = {
            label: NGram(ORDER, DISCOUNT).fit(row for i, row in self.texts if i == label)
            for label in {i for i, _ in self.texts}
        }
        self._known: dict[Context, np.ndarray] = {}

    def mixture(self, logits_NV: Tensor, contexts: Iterable[Context]) -> Tensor:
        """log p_NV from the net's logits, each row after its own context."""
        exact = torch.promote_types(logits_NV.dtype, torch.float32)  # bfloat16 has three digits
        net_NV = logits_NV.softmax(-1, dtype=exact)
        counted_NV = torch.from_numpy(np.stack([self._after(c) for c in contexts])).to(net_NV)
        return net_NV.lerp(counted_NV, self.weight).log()

    def _after(self, context: Context) -> np.ndarray:
        """P(· | context)."""
        if context not in self._known:
            if len(self._known) * self.choices >= KEPT:
                self._known.clear()
            label, *last = context
            ngram = self._of_label.get(label) or NGram(ORDER, DISCOUNT)
            self._known[context] = ngram.distribution(last, self.choices)
        return self._known[context]

    def get_extra_state(self) -> dict[str, Any]:
        """Plain lists: the texts are all there is to keep."""
        return {"texts": [row for _, row in self.texts], "labels": [i for i, _ in self.texts]}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.fit(state["texts"], state["labels"])


def contexts(batch: TokenBatch | LabelledTokenBatch) -> Iterator[Context]:
    """What stands before each masked position of a batch, in the order of `x_BT[mask_BT]`."""
    labels = batch.label_B.tolist() if isinstance(batch, LabelledTokenBatch) else None
    x_BL = batch.x_BL.tolist()
    for b, t in batch.mask_BT.nonzero().tolist():  # a window of text is masked where it is read
        yield (labels[b] if labels else 0, *x_BL[b][max(1, t - ORDER + 2) : t + 1])


def contexts_after(drawn: Sequence[Tensor], labels: Sequence[int]) -> Iterator[Context]:
    """What stands before the next class of each text being written: so far B classes a step."""
    steps = [x_B.tolist() for x_B in drawn[1 - ORDER :]]
    for b, label in enumerate(labels):
        yield (label, *(x[b] for x in steps))
