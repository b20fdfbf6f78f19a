"""Steps of a generation, for whoever watches it: the samples so far, and a way to stop it.

    with watching(lambda step: print(step.done, "of", step.total, step.samples())):
        model.generate(length=200)

The watcher is called in the thread that generates, after each frame, message, character or sheet.
It stops the generation by raising `GenerationStopped`, or any other exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple


class GenerationStopped(Exception):
    """Raised by a watcher to stop a generation."""


class Step(NamedTuple):
    """`done` of `total` steps are done; `samples()` are the samples so far, as the model's
    `generate` returns them."""

    done: int
    total: int
    samples: Callable[[], list[Any]]


Watcher = Callable[[Step], None]
_watcher: ContextVar[Watcher | None] = ContextVar("watcher", default=None)


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Call `watcher` after each step of the generations in this block, in this thread."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def report_step(done: int, total: int, samples: Callable[[], list[Any]]) -> None:
    """Tell the watcher, if there is one, that `done` of `total` steps of a generation are done."""
    if (watcher := _watcher.get()) is not None:
        watcher(Step(done, total, samples))
