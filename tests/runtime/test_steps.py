"""A watcher of a generation gets the samples so far, changes nothing, and can stop it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from musegen.codecs.chars import CharCodec
from musegen.codecs.messages import MessageCodec
from musegen.codecs.roll_codec import RollCodec
from musegen.models.biaxial_lstm import BiaxialLSTM
from musegen.models.char_rnn import CharRNN
from musegen.models.lstm_midi import LSTMMidi
from musegen.models.rbm import RBM
from musegen.models.rnn_rbm import RNNRBM
from musegen.runtime.steps import GenerationStopped, Step, watching
from musegen.specs import Frames, Rolls


def lstm_midi() -> LSTMMidi:
    codec = MessageCodec((60, 72))
    return LSTMMidi(codec.spec, codec, hidden=4)


def char_rnn() -> CharRNN:
    codec = CharCodec("ab", end=False)
    return CharRNN(codec.spec, codec, hidden=4)


MODELS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "rnn_rbm": (lambda: RNNRBM(Rolls(88), RollCodec(), hidden=3, recurrent=2), {"length": 5}),
    "biaxial": (lambda: BiaxialLSTM(Rolls(88), RollCodec(), hidden=3, note_hidden=2, features=2,
                                    global_hidden=0, attention_heads=0), {"length": 5}),
    "lstm_midi": (lstm_midi, {"length": 5}),
    "char_rnn": (char_rnn, {"length": 5}),
    "rbm": (lambda: RBM(Frames(4), hidden=3), {"rows": 5, "steps": 1}),
}  # fmt: skip


def equal(a: list[Any], b: list[Any]) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y
        for x, y in zip(a, b, strict=True)
    )


@pytest.fixture(params=MODELS)
def generation(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    torch.manual_seed(0)
    build, settings = MODELS[request.param]
    model = build()
    return lambda **more: model.generate(n=2, **(settings | more))


def test_every_step_is_reported_and_nothing_changes(generation) -> None:
    expected, steps, last = generation(), [], []

    def watch(step: Step) -> None:
        steps.append((step.done, step.total))
        last[:] = step.samples()

    with watching(watch):
        assert equal(generation(), expected)
    assert steps == [(i, 5) for i in range(1, 6)]
    assert equal(last, expected)
    generation()
    assert len(steps) == 5  # nobody watches any more


def test_the_samples_so_far_are_those_of_a_shorter_generation(generation) -> None:
    found: dict[int, list[Any]] = {}
    with watching(lambda step: found.update({step.done: step.samples()})):
        generation()
    shorter = {"rows": 2} if len(found[1]) == 1 else {"length": 2}
    assert equal(found[2], generation(**shorter))


def test_a_watcher_stops_the_generation(generation) -> None:
    steps: list[int] = []

    def stop(step: Step) -> None:
        steps.append(step.done)
        if step.done == 2:
            raise GenerationStopped

    with pytest.raises(GenerationStopped), watching(stop):
        generation()
    assert steps == [1, 2]
