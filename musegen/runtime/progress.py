"""Progress of long work: bars on a terminal, plain lines elsewhere.

    for file in track(files, "reading MIDI", unit="files"):
        …

Work that takes less than a second shows nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, TypeVar

from pytorch_lightning.utilities import rank_zero_only

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

T = TypeVar("T")

PATIENCE = 1.0
"""Seconds before a bar appears."""
REFRESH = 0.25
"""Seconds between two drawings of a bar: each takes milliseconds."""
FIRST_LINE = 10.0
"""Seconds before the first plain line; the wait doubles with each further line."""
MIN_MEASURED = 2.0
"""Seconds over which the speed is measured at least, before a time left is shown."""


class Work:
    """Work of `total` units (None if unknown), of which `done` are done.

    `at` reports progress; it only reads the clock, so it may be called in inner loops. `note` is
    a text to show beside the progress. As a context manager, it closes itself. This base class
    shows nothing.
    """

    def __init__(self, what: str, total: float | None, unit: str, done: float = 0) -> None:
        self.what, self.total, self.unit, self.done, self.note = what, total, unit, done, ""
        self._started = time.perf_counter()
        self._due = self._started + self.patience
        self._warm: tuple[float, float] | None = None
        """The time and the units done at the first report. Before it, kernels are compiled."""
        self.min_measured = MIN_MEASURED

    patience = float("inf")

    def without_warm_up(self) -> None:
        """The first units are as fast as the others: measure from now on, and show at once."""
        self._warm, self.min_measured = (time.perf_counter(), self.done), 0.0

    def at(self, done: float) -> None:
        """Report the number of units done so far."""
        self.done = done
        now = time.perf_counter()
        if self._warm is None:
            self._warm = now, done
        if now >= self._due:
            self._due = self.show(now - self._started) + now

    def show(self, seconds: float) -> float:
        """Show the progress, `seconds` after the start; returns the seconds until the next time."""
        return float("inf")

    def close(self) -> None:
        """End the display, whether all units are done or not."""

    def counted(self) -> str:
        """Units done and the total, e.g. "80/500 files"."""
        total = "" if self.total is None else f"/{self.total:,.0f}"
        return f"{self.done:,.0f}{total} {self.unit}"

    def left(self) -> str:
        """The time left at the speed since the first report; empty without a fair estimate.

        The first units are slow, because kernels are compiled and caches are filled. So the speed
        is measured after the first report, for as long as that report took, and for at least
        `MIN_MEASURED` seconds; not so after `without_warm_up`.
        """
        if self.total is None or self._warm is None or self.done >= self.total:
            return ""
        warm_at, warm_done = self._warm
        measured, done = time.perf_counter() - warm_at, self.done - warm_done
        if done <= 0 or measured < max(self.min_measured, warm_at - self._started):
            return ""
        return f"{duration(measured * (self.total - self.done) / done)} left"

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Lines(Work):
    """Plain lines on stderr, so that stdout can be piped."""

    patience = FIRST_LINE

    def show(self, seconds: float) -> float:
        if self.done == self.total:
            return float("inf")  # the next output of the command shows that it is done
        parts = [f"{self.what}  {self.counted()}", self.note, self.left()]
        print(*filter(None, parts), sep="  ", file=sys.stderr, flush=True)
        return seconds


class Bar(Work):
    """A bar with the time left, below printed lines; all bars share one display."""

    patience = PATIENCE
    display: Progress | None = None
    task: TaskID | None = None

    def show(self, seconds: float) -> float:
        if Bar.display is None:
            Bar.display = _new_display()
            Bar.display.start()
        if self.task is None:
            self.task = Bar.display.add_task(self.what, total=self.total, text="")
        parts = [self.counted(), self.left(), self.note]
        Bar.display.update(
            self.task, completed=self.done, description=self.what, refresh=True,
            text="  ".join(filter(None, parts)),
        )  # fmt: skip
        return REFRESH

    def close(self) -> None:
        if self.task is None or Bar.display is None:
            return
        Bar.display.remove_task(self.task)
        self.task = None
        if not Bar.display.tasks:
            Bar.display.stop()
            Bar.display = None


def _new_display() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
    # auto_refresh would start a thread, and processes are forked while a bar is shown.
    return Progress(*columns, auto_refresh=False, transient=True)


def begin(what: str, total: float | None = None, unit: str = "", done: float = 0) -> Work:
    """Start to show work, as a bar or as lines, only in the first process; `close` ends it."""
    if getattr(rank_zero_only, "rank", 0) != 0:
        return Work(what, total, unit, done)
    return (Bar if sys.stdout.isatty() else Lines)(what, total, unit, done)


def track(
    items: Iterable[T], what: str, unit: str, total: float | None = None, warm_up: bool = True
) -> Iterator[T]:
    """Yield each item and show how many are done.

    Without a `warm_up` the first items are as fast as the others, and the time left is shown with
    the first drawing.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    with begin(what, total, unit) as work:
        if not warm_up:
            work.without_warm_up()
        for done, item in enumerate(items, start=1):
            yield item
            work.at(done)


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
