"""A headless Chromium with nothing to talk to, for tests of pages."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
OWN = ("file:", "data:", "blob:")
"""What a page has in itself; anything else would be a request to the network."""


@contextmanager
def chromium() -> Iterator[Any]:
    """The system's Chromium, driven by playwright; the test is skipped where either is missing."""
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
    """A page opened from disk without a network.

    Fails at the end if anything asked for the network, or if the console said anything.
    """
    context = browser.new_context(offline=True, **settings)
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if not r.url.startswith(OWN) else None)
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(path.as_uri())
    yield page
    context.close()
    assert asked == []
    assert said == []


def wait_until(page: Any, expression: str, seconds: float = 20.0) -> None:
    """Wait until a JavaScript expression is true.

    playwright's own `wait_for_function` evaluates strings in the page, which its policy forbids.
    """
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, f"not within {seconds} s: {expression}"
        time.sleep(0.02)
