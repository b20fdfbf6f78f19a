"""How far a long piece of work has come: bars on a terminal, plain lines elsewhere.

    for file in track(files, "reading MIDI", unit="files"):
        …

What is over within a second shows nothing.
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
"""Seconds between two looks at a bar: drawing one takes milliseconds."""
FIRST_LINE = 10.0
"""Seconds before the first plain line; each further one after twice as long."""


class Work:
    """A piece of work under way, of `total` units, or of an unknown number.

    `at` says how many are done; it costs a look at the clock and may be called in inner loops.
    Figures to show beside it go into `note`. Used as a context, it ends with it.
    """

    def __init__(self, what: str, total: float | None, unit: str, done: float = 0) -> None:
        self.what, self.total, self.unit, self.done, self.note = what, total, unit, done, ""
        self._began_at, self._began = done, time.perf_counter()
        self._due = self._began + self.patience

    patience = float("inf")

    def at(self, done: float) -> None:
        """So many units are done now, in all."""
        self.done = done
        if (now := time.perf_counter()) >= self._due:
            self._due = self.show(now - self._began) + now

    def show(self, seconds: float) -> float:
        """Show the work, `seconds` after its beginning; returns the seconds until the next time."""
        return float("inf")

    def close(self) -> None:
        """The work is over, done or not."""

    def counted(self) -> str:
        """Units done, of those there are."""
        of = "" if self.total is None else f"/{self.total:,.0f}"
        return f"{self.done:,.0f}{of} {self.unit}"

    def left(self) -> str:
        """The time left at the pace so far, or nothing where that is unknown."""
        gone, done = time.perf_counter() - self._began, self.done - self._began_at
        if self.total is None or done <= 0:
            return ""
        return f"{duration(gone * (self.total - self.done) / done)} left"

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Lines(Work):
    """Plain lines on stderr, so that what a command prints can be piped."""

    patience = FIRST_LINE

    def show(self, seconds: float) -> float:
        if self.done == self.total:
            return float("inf")  # what comes next says that it is over
        parts = [f"{self.what}  {self.counted()}", self.note, self.left()]
        print(*filter(None, parts), sep="  ", file=sys.stderr, flush=True)
        return seconds


class Bar(Work):
    """A bar with the time left, below what is printed; all bars share one display."""

    patience = PATIENCE
    display: Progress | None = None
    task: TaskID | None = None

    def show(self, seconds: float) -> float:
        if Bar.display is None:
            Bar.display = _new_display()
            Bar.display.start()
        if self.task is None:
            self.task = Bar.display.add_task(self.what, total=self.total, counted="", note="")
        Bar.display.update(
            self.task, completed=self.done, description=self.what, counted=self.counted(),
            note=self.note, refresh=True,
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
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counted]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    # No thread of its own: processes are forked while it shows.
    return Progress(*columns, auto_refresh=False, transient=True)


def begin(what: str, total: float | None = None, unit: str = "", done: float = 0) -> Work:
    """Begin a piece of work, in the form that suits where the output goes; `close` ends it."""
    if getattr(rank_zero_only, "rank", 0) != 0:
        return Work(what, total, unit, done)
    return (Bar if sys.stdout.isatty() else Lines)(what, total, unit, done)


def track(items: Iterable[T], what: str, unit: str, total: float | None = None) -> Iterator[T]:
    """Each item in turn, while it is shown how many are done."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with begin(what, total, unit) as work:
        for done, item in enumerate(items, start=1):
            yield item
            work.at(done)


def duration(seconds: float) -> str:
    """Seconds as m:ss or h:mm:ss."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
