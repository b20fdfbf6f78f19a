"""A recurrent net that predicts the next character: counting, names, any text.

    x_t = E[character t] + L[label]
    h_t = cell(x_t, h_{t−1})
    p(character t+1 | those before, label) = softmax(W h_t + b)

The loss is the mean of −log p over the positions of the batch. `cell` is Elman's tanh network
(1990), the GRU (Cho et al. 2014) or the LSTM (Hochreiter & Schmidhuber 1997; Gers 2000). After
"Neural Mozart" (Zhang Jiang's course), where two tanh units or one LSTM unit learn 0ⁿ1ⁿ. With
`ngram_weight` a share of p comes from an n-gram of the training texts
(`musegen.models.layers.ngram_mixture`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from musegen.baselines import name_quality
from musegen.codecs.chars import CharCodec
from musegen.errors import UserError
from musegen.metrics import capacity
from musegen.metrics.chars import CharLikelihood
from musegen.models.base import Model
from musegen.models.layers.dropout import Dropout
from musegen.models.layers.ngram_mixture import TextNGram, contexts, contexts_after
from musegen.models.layers.softmax_sampler import Sampler
from musegen.specs import LabelledTokenBatch, LabelledTokens, TokenBatch, Tokens

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
State = Tensor | tuple[Tensor, Tensor]
"""What the cells carry on: h, each (layers, B, H), for an LSTM (h, c)."""
Sample = str | tuple[str, str]
"""A text, or (label, text) from a model with labels."""


class CharRNN(Model):
    """Embedding → stack of cells → linear.

    - cell, hidden, layers: the stack. embedding: width of E and L; null takes `hidden`, as the
      course does.
    - dropout: on the characters' embeddings (a label is always heard whole), between layers and
      before the linear map.
    - counter: start an LSTM as one that remembers: +8 on the forget gates, so that a cell keeps
      what it has added up (after Gers 2000), no way yet from h to the gates, and a classifier 3
      times as steep, so that small steps of the cell are heard.
    - ngram_weight: the share γ of p that the 6-gram of the training texts has. Training teaches
      the net alone; validation, test and generation are of the mixture.
    - dtype: `float64` for counting far, where rounding adds up over thousands of steps.
    """

    name: ClassVar[str] = "char_rnn"
    reads = (Tokens, LabelledTokens)
    codec_type = CharCodec
    spec: Tokens | LabelledTokens
    codec: CharCodec

    def __init__(
        self,
        spec: Tokens | LabelledTokens,
        codec: CharCodec | None = None,
        cell: Literal["rnn", "gru", "lstm"] = "lstm",
        hidden: int = 256,
        layers: int = 1,
        embedding: int | None = None,
        dropout: float = 0.0,
        counter: bool = False,
        ngram_weight: float = 0.0,
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        super().__init__(spec, codec)
        self.save_settings()
        width = hidden if embedding is None else embedding
        if min(hidden, layers, width) < 1 or not 0 <= dropout < 1:
            raise UserError(
                f"model: hidden={hidden}, layers={layers}, embedding={width} must be at least 1 "
                f"and dropout={dropout} in [0, 1)"
            )
        if not 0 <= ngram_weight < 1:
            raise UserError(f"model.ngram_weight={ngram_weight}: must lie in [0, 1)")
        classes = self.spec.vocab_size
        self.embed = nn.Embedding(classes + 1, width)  # one more: "before the text"
        self.embed_label = (
            nn.Embedding(self.spec.num_labels, width)
            if isinstance(self.spec, LabelledTokens)
            else None
        )
        self.cells = CELLS[cell](
            width, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0
        )
        self.dropout = Dropout(dropout)
        self.out = nn.Linear(hidden, classes)
        self.ngram = TextNGram(ngram_weight, classes) if ngram_weight else None
        if counter:
            self._start_as_counter()
        self.to(getattr(torch, dtype))

    @torch.no_grad()
    def _start_as_counter(self) -> None:
        if not isinstance(self.cells, nn.LSTM):
            raise UserError("model.counter=true sets an LSTM's gates; use model.cell=lstm")
        for _, from_h, bias, _ in self.cells.all_weights:
            from_h.zero_()
            _, forget_gate, _, _ = bias.chunk(4)
            forget_gate += 8.0
        for p in self.out.parameters():
            p.mul_(3.0)

    def forward(
        self, x_BT: Tensor, label_B: Tensor | None = None, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Classes → the top cells' output h_BTH, and the state to go on with."""
        x_BTD = self.dropout(self.embed(x_BT))
        if self.embed_label is not None:
            assert label_B is not None, "a labelled model reads labelled batches"
            x_BTD = x_BTD + self.embed_label(label_B)[:, None]
        return self.cells(x_BTD, state)

    def logits(self, batch: TokenBatch | LabelledTokenBatch) -> tuple[Tensor, Tensor]:
        """The net's logits_NV of the N masked positions, and their targets x_N."""
        label_B = batch.label_B if isinstance(batch, LabelledTokenBatch) else None
        h_BTH, _ = self(batch.x_BL[:, :-1], label_B)
        logits_NV = self.out(self.dropout(h_BTH[batch.mask_BT]))
        return logits_NV, batch.x_BL[:, 1:][batch.mask_BT]

    def predicted(self, batch: TokenBatch | LabelledTokenBatch) -> tuple[Tensor, Tensor]:
        """As `logits`, but with the n-gram's share: where it has one, log p_NV."""
        logits_NV, x_N = self.logits(batch)
        if self.ngram is not None:
            logits_NV = self.ngram.mixture(logits_NV, contexts(batch))
        return logits_NV, x_N

    def losses(self, batch: TokenBatch | LabelledTokenBatch) -> dict[str, Tensor]:
        logits_NV, x_N = self.logits(batch)
        return {"nll": F.cross_entropy(logits_NV, x_N)}

    def num_predictions(self, batch: TokenBatch | LabelledTokenBatch) -> int:
        return int(batch.mask_BT.sum())

    def new_metric(self) -> Metric:
        return CharLikelihood()

    def on_fit_start(self) -> None:
        if self.ngram is not None:
            data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
            rows = data.coded("train")
            self.ngram.fit(rows, data.labels["train"] if data.labels else [0] * len(rows))

    def score(self, batch: TokenBatch | LabelledTokenBatch, metric: Metric, stage: str) -> None:
        logits_NV, x_N = self.predicted(batch)
        nats_N = F.cross_entropy(logits_NV, x_N, reduction="none")
        metric.update(nats_N[:, None], (logits_NV.argmax(-1) == x_N)[:, None])

    @torch.inference_mode()
    def read(
        self, rows: Sequence[np.ndarray], labels: Sequence[int] | None = None, at_once: int = 256
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each encoded text, −log p of its T classes and the likeliest ones: nats_T, guess_T.

        Texts are read in batches of similar length and given back in their own order.
        """
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        results: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        training = self.training
        self.eval()
        try:
            for first in range(0, len(order), at_once):
                these = order[first : first + at_once]
                given = None if labels is None else [labels[i] for i in these]
                batch = self.codec.batch([rows[i] for i in these], given)
                logits_NV, x_N = self.predicted(type(batch)(*(t.to(self.device) for t in batch)))
                nats_N = F.cross_entropy(logits_NV, x_N, reduction="none").float().cpu().numpy()
                guess_N = logits_NV.argmax(-1).cpu().numpy()
                ends = np.cumsum([len(rows[i]) for i in these])[:-1]
                parts = zip(np.split(nats_N, ends), np.split(guess_N, ends), strict=True)
                results.update(zip(these, parts, strict=True))
        finally:
            self.train(training)
        return (results[i] for i in range(len(rows)))

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        data: Any = getattr(self.trainer, "datamodule", None)
        if getattr(data, "grammar", None) is not None:
            far = capacity.capacity(self, data.grammar, data.ranges["val"][1])
            self.log("val/capacity", float(far))

    def assess(self, data: Any, temperature: float = 1.0) -> dict[str, float]:
        """Beside the test metrics: names' and grammars' own metrics.

        `temperature` is that of the generated names that are judged.
        """
        if self.codec.labels is not None:
            return name_quality.assess(self, data, temperature)
        if getattr(data, "grammar", None) is not None:
            return {"capacity": float(capacity.capacity(self, data.grammar, data.count_to))}
        return {}

    @torch.inference_mode()
    def generate(
        self,
        n: int = 1,
        label: str | None = None,
        length: int = 400,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[Sample]:
        """Write n texts, each until its end or `length` characters, in one batch.

        A model with labels gives (label, text) pairs: n of `label`, or n of every label. The
        class of unknown characters is never drawn. Training mode and the global random streams
        are left as they were.

        Raises `UserError` for settings out of range and for a label that the model lacks.
        """
        if n < 1 or length < 1:
            raise UserError(f"n={n} and length={length} must be at least 1")
        labels = self._labels(label, n)
        sampler = Sampler(temperature, top_k, top_p)
        generator = torch.Generator(self.device).manual_seed(seed)
        rows = n if labels is None else len(labels)
        label_B = None if labels is None else torch.as_tensor(labels, device=self.device)
        x_B = torch.full((rows,), self.codec.start_class, device=self.device)
        ended_B = torch.zeros(rows, dtype=torch.bool, device=self.device)
        drawn: list[Tensor] = []
        state: State | None = None
        training = self.training
        self.eval()
        try:
            while len(drawn) < length and not ended_B.all():
                h_BTH, state = self(x_B[:, None], label_B, state)
                logits_BV = self.out(h_BTH[:, 0])
                if self.ngram is not None:
                    before = contexts_after(drawn, labels or [0] * rows)
                    logits_BV = self.ngram.mixture(logits_BV, before)
                if (unknown := self.codec.unknown_class) is not None:
                    logits_BV[:, unknown] = float("-inf")
                x_B = sampler(logits_BV, generator)
                drawn.append(x_B)
                if (end := self.codec.end_class) is not None:
                    ended_B |= x_B == end
        finally:
            self.train(training)
        texts = [self.codec.decode(row) for row in torch.stack(drawn, dim=1).tolist()]
        if labels is None:
            return list(texts)
        assert self.codec.labels is not None
        return [(self.codec.labels[i], text) for i, text in zip(labels, texts, strict=True)]

    def _labels(self, label: str | None, n: int) -> list[int] | None:
        """The label of each text to write; None for a model without labels."""
        if label is not None:
            return [self.codec.label_class(label)] * n
        if self.codec.labels is None:
            return None
        return [i for i in range(len(self.codec.labels)) for _ in range(n)]
