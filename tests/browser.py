"""A headless Chromium without a network, for tests of pages."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
HANG = 1800.0
"""Seconds after which a test fails that would wait for ever. A busy computer needs many."""
LOCAL_SCHEMES = ("file:", "data:", "blob:")
"""URLs that need no network."""


@contextmanager
def chromium() -> Iterator[Any]:
    """The system's Chromium, controlled by playwright. Skips the test if one of them is missing."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no Chromium: none of {', '.join(NAMES)} is installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, **settings: Any) -> Iterator[Any]:
    """A page from disk, without a network.

    Fails at the end if there was a request to the network or a message on the console.
    """
    context = browser.new_context(offline=True, **settings)
    context.set_default_timeout(1000 * HANG)
    page = context.new_page()
    requests: list[str] = []
    messages: list[str] = []
    page.on(
        "request", lambda r: requests.append(r.url) if not r.url.startswith(LOCAL_SCHEMES) else None
    )
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert requests == []
    assert messages == []


def wait_until(page: Any, expression: str) -> None:
    """Wait until a JavaScript expression is true.

    playwright's `wait_for_function` evaluates strings in the page, which the page's content
    security policy forbids.
    """
    end = time.monotonic() + HANG
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"not within {HANG} s: {expression}"
        time.sleep(0.02)
