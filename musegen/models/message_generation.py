"""Drawing new messages with an `LSTMMidi`, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Generator, Tensor

from musegen.codecs.message_matches import MessageHistory
from musegen.codecs.messages import FIELDS, SCORE_MESSAGES, MessageCodec
from musegen.errors import UserError
from musegen.models.layers.beat_clock import advance
from musegen.models.layers.key_weights import KeyWeights
from musegen.models.layers.message_match import read_matches
from musegen.models.layers.past_attention import Past
from musegen.models.layers.softmax_sampler import Sampler
from musegen.models.message_net import State
from musegen.models.message_picker import MessagePicker
from musegen.models.message_step import MessageStep

if TYPE_CHECKING:
    from musegen.models.lstm_midi import LSTMMidi


def read_prime(
    codec: MessageCodec, prime: Path | None, seconds: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """The prime's stream and its classes, (T, F); T = 0 without a prime.

    Raises `UserError` for a prime without notes in the codec's pitch range.
    """
    if prime is None:
        return np.empty(0, SCORE_MESSAGES), np.empty((0, len(FIELDS)), np.int64)
    stream = codec.in_range(codec.read(prime, seconds))
    if not len(stream):
        raise UserError(f"prime={prime}: no notes within the model's pitch range")
    return stream, codec.encode(stream)


def draw_messages(
    model: LSTMMidi,
    n: int,
    labels: list[int] | None,
    length: int,
    prime_TF: np.ndarray,
    clock_TC: np.ndarray,
    sampler: Sampler,
    generator: Generator,
    key_strength: float,
) -> Iterator[Tensor]:
    """The classes x_BF of each step of n pieces, or one per label, that continue the prime."""
    spec, device = model.spec, model.device
    start_TF = np.array([spec.sizes])  # "before the piece"
    read_TF = torch.as_tensor(np.concatenate([start_TF, prime_TF]), device=device)
    history = MessageHistory(1, spec.sizes, len(read_TF) + length) if spec.matches else None
    match_BTM = None if history is None else read_matches(history, read_TF[None])
    key = None
    if key_strength:
        lowest = model.codec.pitch_range[0]
        key = KeyWeights(spec.notes, lowest, key_strength)
        for t in range(len(prime_TF)):
            key.read(prime_TF[t : t + 1])
    clock_BTC = torch.as_tensor(clock_TC, device=device)[None]
    label_B = None
    if labels is not None:
        n, label_B = len(labels), torch.tensor(labels, device=device)
    rows = 1 if label_B is None else n  # without labels the prime is read once for all pieces
    h_BTD, active_BTQ, (h, c, age_BP, attended) = model(
        read_TF.expand(rows, -1, -1), None, label_B, clock_BTC.expand(rows, -1, -1),
        None if match_BTM is None else match_BTM.expand(rows, -1, -1),
    )  # fmt: skip
    h_BD, active_BQ = h_BTD[:, -1].expand(n, -1), active_BTQ[:, -1].expand(n, -1)
    state = State(
        h.expand(-1, n, -1).unbind(),
        c.expand(-1, n, -1).unbind(),
        age_BP.expand(n, -1),
        attended and Past(*(part.expand(n, *part.shape[1:]) for part in attended)),
    )
    clock_BC = clock_BTC[:, -1].expand(n, -1)
    match_BM = None if match_BTM is None else match_BTM[:, -1].expand(n, -1)
    history = history and history.select(np.zeros(n, np.int64))
    if key is not None:
        key.repeat(n)
    ticks_V = torch.as_tensor(model.codec.ticks, device=device)
    step, draw = MessageStep(model), model.heads.drawing()
    picker = MessagePicker(sampler, generator, key, model.match_logits)
    for _ in range(length):
        picker.begin(h_BD, match_BM)
        x_BF = draw(h_BD, active_BQ, picker.pick)
        yield x_BF
        if key is not None:
            key.read(x_BF.cpu().numpy())
        if model.clock is not None:
            clock_BC = advance(clock_BC, ticks_V[x_BF[:, 2]])
        if history is not None:
            match_BM = read_matches(history, x_BF[:, None])[:, 0]
        h_BD, active_BQ, state = step(x_BF, state, label_B, clock_BC, match_BM)
