"""Ctrl-C and SIGTERM as wishes that are granted between two updates."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Any

PATIENCE = 0.5
"""Seconds within which a signal that comes again is still the same one: a terminal sends it to
all processes, and the one that launched the others passes it on."""


class Stopped(Exception):
    """Training was asked to stop, and has written its checkpoint.

    `code` is what the process should exit with, 128 and the number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.code = 128 + number


class Interrupts:
    """Remembers that a signal came; a second one ends the process at once.

    `wanted` is the number of the signal, 0 before one came. Signals are Python's affair in the
    main thread only; elsewhere nothing is caught.
    """

    def __init__(self) -> None:
        self.wanted = 0
        self._at = 0.0
        self._before: dict[int, Any] = {}

    def catch(self) -> None:
        self.wanted = 0
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)

    def release(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.wanted:
            self.wanted, self._at = number, now
            with suppress(RuntimeError):  # it came in the midst of another line's printing
                print("stopping after this update; once more stops at once", flush=True)
        elif now - self._at > PATIENCE:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
