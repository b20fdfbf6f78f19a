"""Ctrl-C and SIGTERM as requests to stop, which are followed between two updates."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

PATIENCE = 0.5
"""Seconds in which a repeated signal counts as the same one: a terminal sends it to all processes,
and the launching process also sends it to those that it started."""


class Stopped(Exception):
    """Training was asked to stop, and has written its checkpoint.

    `code` is the exit code of the process: 128 plus the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


class Interrupts:
    """Notes that a signal was received; a second one ends the process at once.

    `wanted` is the number of the signal, 0 before one is received. Python handles signals only in
    the main thread; in other threads nothing is caught.
    """

    def __init__(self) -> None:
        self.wanted = 0
        self._received_at = 0.0
        self._previous_handlers: dict[int, Any] = {}

    def catch(self) -> None:
        self.wanted = 0
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous_handlers[number] = signal.signal(number, self._note)

    def release(self) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._previous_handlers = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.wanted:
            self.wanted, self._received_at = number, now
            with suppress(RuntimeError):  # the signal interrupted another print
                print("stopping after this update; a second signal stops at once", flush=True)
        elif now - self._received_at > PATIENCE:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
