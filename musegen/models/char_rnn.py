"""A recurrent network that predicts the next character: formal languages, names, any text.

    x_t = E[character t] + L[label]
    h_t = cell(x_t, h_{t−1})
    p(character t+1 | characters 1…t, label) = softmax(W h_t + b)

The loss is the mean of −log p over the positions of the batch. `cell` is Elman's tanh network
(1990), the GRU (Cho et al. 2014) or the LSTM (Hochreiter & Schmidhuber 1997; Gers 2000). After
"Neural Mozart" (Zhang Jiang's course), where two tanh units or one LSTM unit learn 0ⁿ1ⁿ. With
`ngram_weight` p is a mixture with an n-gram model of the training texts
(`musegen.models.layers.ngram_mixture`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Tensor, nn
from torchmetrics import Metric

from musegen.baselines import name_quality
from musegen.codecs.chars import CharCodec
from musegen.codecs.labels import labels_to_generate
from musegen.constraints import (
    DropoutRate,
    NonNegativeInt,
    PositiveFraction,
    PositiveInt,
    SampleCount,
    SampleLength,
    Seed,
    Temperature,
    check_arguments,
)
from musegen.errors import UserError
from musegen.metrics import capacity
from musegen.metrics.chars import CharNLL
from musegen.models.base import Model
from musegen.models.layers.class_selection import select_texts
from musegen.models.layers.dropout import Dropout
from musegen.models.layers.ngram_mixture import TextNGram, contexts, contexts_after
from musegen.models.layers.softmax_sampler import Sampler
from musegen.runtime.random_streams import Stream, torch_stream
from musegen.runtime.steps import report_step
from musegen.specs import LabelledTokenBatch, LabelledTokens, TokenBatch, Tokens
from musegen.training.lightning_compat import required_datamodule

MixtureWeight = Annotated[float, Ge(0), Lt(1)]
CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
State = Tensor | tuple[Tensor, Tensor]
"""The recurrent state: h, of an LSTM (h, c); each (layers, B, H)."""
Sample = str | tuple[str, str]
"""A text, or (label, text) from a model with labels."""


class CharRNN(Model):
    """Embedding → stack of cells → linear.

    - cell, hidden, layers: the stack. embedding: the width of E and L; null means `hidden`, as in
      the course.
    - dropout: on the characters' embeddings (not on the label's), between layers and before the
      linear map.
    - counter: initialise an LSTM for counting: add 8 to the forget gates' bias, so that a cell
      keeps its sum (after Gers 2000); set the weights from h to the gates to 0; multiply the
      classifier's weights by 3, so that small steps of the cell change the prediction.
    - ngram_weight: the weight γ of the 6-gram of the training texts in the mixture p. The loss is
      that of the network alone; validation, test and generation use the mixture.
    - dtype: `float64` for long counts, where rounding errors add up over thousands of steps.

    Raises `UserError` for settings out of range.
    """

    name: ClassVar[str] = "char_rnn"
    reads = (Tokens, LabelledTokens)
    scores = ("nll", "bpc", "perplexity", "accuracy")
    loss_metric = (1, "nll")
    codec_type = CharCodec
    spec: Tokens | LabelledTokens
    codec: CharCodec

    @check_arguments
    def __init__(
        self,
        spec: Tokens | LabelledTokens,
        codec: CharCodec | None = None,
        cell: Literal["rnn", "gru", "lstm"] = "lstm",
        hidden: PositiveInt = 256,
        layers: PositiveInt = 1,
        embedding: PositiveInt | None = None,
        dropout: DropoutRate = 0.0,
        counter: bool = False,
        ngram_weight: MixtureWeight = 0.0,
        dtype: Literal["float32", "float64"] = "float32",
    ) -> None:
        super().__init__(spec, codec)
        self.save_settings()
        width = hidden if embedding is None else embedding
        classes = self.spec.vocab_size
        self.embed = nn.Embedding(classes + 1, width)  # the last one: "before the text"
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
            self._initialise_for_counting()
        self.to(getattr(torch, dtype))

    @torch.no_grad()
    def _initialise_for_counting(self) -> None:
        if not isinstance(self.cells, nn.LSTM):
            raise UserError("counter=true needs an LSTM: set model.cell=lstm")
        for _, from_h, bias, _ in self.cells.all_weights:
            from_h.zero_()
            _, forget_gate, _, _ = bias.chunk(4)
            forget_gate += 8.0
        for p in self.out.parameters():
            p.mul_(3.0)

    def forward(
        self, x_BT: Tensor, label_B: Tensor | None = None, state: State | None = None
    ) -> tuple[Tensor, State]:
        """Classes → the output of the top layer, h_BTH, and the next state."""
        x_BTD = self.dropout(self.embed(x_BT))
        if self.embed_label is not None:
            assert label_B is not None, "a labelled model reads labelled batches"
            x_BTD = x_BTD + self.embed_label(label_B)[:, None]
        return self.cells(x_BTD, state)

    def logits(self, batch: TokenBatch | LabelledTokenBatch) -> tuple[Tensor, Tensor]:
        """The network's logits_NV at the N positions of the mask, and their targets x_N."""
        label_B = batch.label_B if isinstance(batch, LabelledTokenBatch) else None
        h_BTH, _ = self(batch.x_BL[:, :-1], label_B)
        logits_NV = self.out(self.dropout(h_BTH[batch.mask_BT]))
        return logits_NV, batch.x_BL[:, 1:][batch.mask_BT]

    def predicted(self, batch: TokenBatch | LabelledTokenBatch) -> tuple[Tensor, Tensor]:
        """As `logits`; with an n-gram model the first are the mixture's log p_NV instead."""
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
        return CharNLL()

    def on_fit_start(self) -> None:
        if self.ngram is not None:
            data = required_datamodule(self.trainer, "ngram_weight, for the training texts,")
            texts = data.coded("train")
            self.ngram.fit(texts, data.labels["train"] if data.labels else [0] * len(texts))

    def score(self, batch: TokenBatch | LabelledTokenBatch, metric: Metric, stage: str) -> None:
        logits_NV, x_N = self.predicted(batch)
        nll_N = F.cross_entropy(logits_NV, x_N, reduction="none")
        metric.update(nll_N[:, None], (logits_NV.argmax(-1) == x_N)[:, None])

    @torch.inference_mode()
    def read(
        self, rows: Sequence[np.ndarray], labels: Sequence[int] | None = None, batch_size: int = 256
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each encoded text: −log p of its T classes, and the most likely classes.

        Yields (nll_T, guess_T) per text, in the order of `rows`. The texts are read in batches of
        similar length.
        """
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        results: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        training = self.training
        self.eval()
        try:
            for first in range(0, len(order), batch_size):
                indices = order[first : first + batch_size]
                batch_labels = None if labels is None else [labels[i] for i in indices]
                batch = self.codec.batch([rows[i] for i in indices], batch_labels)
                logits_NV, x_N = self.predicted(type(batch)(*(t.to(self.device) for t in batch)))
                nll_N = F.cross_entropy(logits_NV, x_N, reduction="none").float().cpu().numpy()
                guess_N = logits_NV.argmax(-1).cpu().numpy()
                ends = np.cumsum([len(rows[i]) for i in indices])[:-1]
                parts = zip(np.split(nll_N, ends), np.split(guess_N, ends), strict=True)
                results.update(zip(indices, parts, strict=True))
        finally:
            self.train(training)
        return (results[i] for i in range(len(rows)))

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        data: Any = getattr(self.trainer, "datamodule", None)
        if getattr(data, "grammar", None) is not None:
            largest = capacity.capacity(self, data.grammar, data.ranges["val"][1])
            self.log("val/capacity", float(largest))

    @check_arguments
    def assess(self, data: Any, temperature: Temperature = 1.0) -> dict[str, float]:
        """Metrics of names (`name_quality.assess`) or grammars (`capacity`) on the test split.

        `temperature` is that of the names that are generated and evaluated.
        """
        if self.codec.labels is not None:
            return name_quality.assess(self, data, temperature)
        if getattr(data, "grammar", None) is not None:
            return {"capacity": float(capacity.capacity(self, data.grammar, data.count_to))}
        return {}

    def weights_from(self, source: Model) -> dict[str, Tensor]:
        """Symbols and labels may be a part of the source's (`select_texts`)."""
        if self.codec is None or source.codec is None:
            return super().weights_from(source)
        return select_texts(source.state_dict(), source.codec, self.codec)

    @check_arguments
    @torch.inference_mode()
    def generate(
        self,
        n: SampleCount = 1,
        label: str | None = None,
        length: SampleLength = 400,
        temperature: Temperature = 1.0,
        top_k: NonNegativeInt = 0,
        top_p: PositiveFraction = 1.0,
        seed: Seed = 0,
    ) -> list[Sample]:
        """Generate n texts in one batch, each up to its end class or to `length` characters.

        A model with labels returns (label, text) pairs: n of `label`, or n of every label. The
        class of unknown characters is never drawn. Training mode and the global random streams
        do not change.

        Raises `UserError` for settings out of range and for a label that the model lacks.
        """
        labels = labels_to_generate(self.codec.labels, label, n)
        sampler = Sampler(temperature, top_k, top_p)
        generator = torch_stream(Stream.SAMPLING, seed)
        training = self.training
        self.eval()
        try:
            drawn = self._draw(n, labels, length, sampler, generator)
        finally:
            self.train(training)
        return self._texts(drawn, labels)

    def _texts(self, drawn: list[Tensor], labels: list[int] | None) -> list[Sample]:
        """The texts of the classes x_B of each step."""
        texts = [self.codec.decode(classes) for classes in torch.stack(drawn, dim=1).tolist()]
        if labels is None:
            return list(texts)
        assert self.codec.labels is not None
        return [(self.codec.labels[i], text) for i, text in zip(labels, texts, strict=True)]

    def _draw(
        self,
        n: int,
        labels: list[int] | None,
        length: int,
        sampler: Sampler,
        generator: torch.Generator,
    ) -> list[Tensor]:
        """The classes x_B of each step: up to `length`, or until every text has ended."""
        size = n if labels is None else len(labels)
        label_B = None if labels is None else torch.as_tensor(labels, device=self.device)
        x_B = torch.full((size,), self.codec.start_class, device=self.device)
        ended_B = torch.zeros(size, dtype=torch.bool, device=self.device)
        drawn: list[Tensor] = []
        state: State | None = None
        while len(drawn) < length and not ended_B.all():
            h_BTH, state = self(x_B[:, None], label_B, state)
            logits_BV = self.out(h_BTH[:, 0])
            if self.ngram is not None:
                last_classes = contexts_after(drawn, labels or [0] * size)
                logits_BV = self.ngram.mixture(logits_BV, last_classes)
            if (unknown := self.codec.unknown_class) is not None:
                logits_BV[:, unknown] = float("-inf")
            x_B = sampler(logits_BV, generator)
            drawn.append(x_B)
            if (end := self.codec.end_class) is not None:
                ended_B |= x_B == end
            report_step(len(drawn), length, lambda: self._texts(drawn, labels))
        return drawn
