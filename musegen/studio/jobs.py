"""Work that takes longer than a request should: one thread does it, a bounded queue waits for it.

A `Job` publishes events: `waiting` (how many are ahead), `progress`, and one last event, which is
`done`, `stopped` or `error`. Only the newest event is kept, so that a slow reader costs no memory.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from musegen.config.error_messages import as_user_error
from musegen.errors import UserError
from musegen.runtime.steps import GenerationStopped, Step

MAX_WAITING = 8
"""Jobs in the queue. Any more are refused."""
MIN_INTERVAL = 0.08
"""Seconds between two `progress` events."""
COST_FACTOR = 5
"""A `progress` event may take one part in so many of the time of the work."""
log = logging.getLogger(__name__)


class Busy(UserError):
    """The queue is full."""


class Event(NamedTuple):
    """What a job has to say; `number` counts its events from 1."""

    number: int
    name: str
    data: dict[str, Any]

    @property
    def last(self) -> bool:
        """Whether the job has ended."""
        return self.name in ("done", "stopped", "error")


Work = Callable[["Job"], dict[str, Any]]


class Job:
    """A piece of work, what it publishes, and the request to stop it."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._stop = threading.Event()
        self._event = Event(0, "waiting", {})
        self._changed = threading.Condition()

    def publish(self, name: str, data: dict[str, Any]) -> None:
        """Replace the newest event, unless the job has ended."""
        with self._changed:
            if not self._event.last:
                self._event = Event(self._event.number + 1, name, data)
                self._changed.notify_all()

    def newest(self) -> Event:
        """The newest event."""
        return self._event

    def wait(self, timeout: float) -> Event:
        """The last event. Raises `TimeoutError` if the job has not ended in `timeout` seconds."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._event.last, timeout):
                raise TimeoutError
            return self._event

    def stop(self) -> None:
        """Let the work end at its next step."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raise `GenerationStopped` if the job is to stop."""
        if self.stopping:
            raise GenerationStopped

    def watcher(self, describe: Callable[[Step], dict[str, Any]]) -> Callable[[Step], None]:
        """A watcher for `musegen.runtime.steps`: publishes progress and stops the generation."""
        due = 0.0

        def watch(step: Step) -> None:
            nonlocal due
            self.check()
            if (started := time.monotonic()) >= due:
                self.publish("progress", describe(step))
                now = time.monotonic()
                due = now + max(MIN_INTERVAL, COST_FACTOR * (now - started))

        return watch

    def run(self) -> None:
        """Do the work in this thread. Every error becomes an event of one line."""
        try:
            self.check()
            self.publish("done", self._work(self))
        except GenerationStopped:
            self.publish("stopped", {})
        except BaseException as error:  # SystemExit, too, would end the thread
            self.publish("error", {"message": one_line(error)})


def one_line(error: BaseException) -> str:
    """An error as one line. One that is no user's mistake is logged with its traceback."""
    problem = error if isinstance(error, UserError) else None
    if problem is None and isinstance(error, Exception):
        problem = as_user_error(error)
    if problem is None:
        log.error("the studio's work failed", exc_info=error)
    return " ".join(str(problem or f"{type(error).__name__}: {error}").split())


class Worker:
    """A thread that does one job after another."""

    def __init__(self, name: str, max_waiting: int = MAX_WAITING) -> None:
        self.max_waiting = max_waiting
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()
        self._running: Job | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: Work) -> Job:
        """Queue the work. Raises `Busy` if too much is queued already."""
        job = Job(work)
        with self._changed:
            self._queue = deque(waiting for waiting in self._queue if not waiting.stopping)
            if len(self._queue) >= self.max_waiting or self._closed:
                raise Busy(f"{len(self._queue)} requests are waiting already; try again soon")
            self._queue.append(job)
            self._tell_places()
            self._changed.notify_all()
        return job

    def _tell_places(self) -> None:
        running = int(self._running is not None)
        for place, job in enumerate(self._queue):
            job.publish("waiting", {"ahead": place + running})

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return
                self._running = self._queue.popleft()
                self._tell_places()
            self._running.run()

    def close(self) -> None:
        """Stop the running job, end the waiting ones, and wait for the thread."""
        with self._changed:
            self._closed = True
            ended = [*self._queue, *([self._running] if self._running else [])]
            for job in ended:
                job.stop()
            for job in self._queue:
                job.publish("stopped", {})
            self._changed.notify_all()
        self._thread.join(timeout=10)
