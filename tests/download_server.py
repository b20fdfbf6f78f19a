"""A local server for tests of downloads: it cuts off, stalls, redirects and sends wrong content."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler

import pytest
from conftest import serving

CONTENT = random.Random(1).randbytes(300_000)
OTHER = CONTENT[::-1]
THIRD, HALF = len(CONTENT) // 3, len(CONTENT) // 2


class Handler(BaseHTTPRequestHandler):
    """`requested` has the path and the first byte of each request."""

    requested: list[tuple[str, int]]

    def do_GET(self) -> None:
        start = int(re.sub(r"\D", "", self.headers.get("Range", "0")))
        self.requested.append((self.path, start))
        first = [path for path, _ in self.requested].count(self.path) == 1
        match self.path:
            case "/good":
                self.send(CONTENT, start)
            case "/whole":  # ignores the Range header
                self.send(CONTENT)
            case "/redirect":
                self.send_response(302)
                self.send_header("Location", "/good")
                self.end_headers()
            case "/loop":
                self.send_response(302)
                self.send_header("Location", "/loop")
                self.end_headers()
            case "/cut":
                self.send(CONTENT, start, THIRD)
            case "/short":
                self.send(CONTENT, 0, HALF)
            case "/stall":
                self.send(CONTENT, 0, HALF)
                time.sleep(3)
            case "/silent":
                time.sleep(3)
            case "/drip":
                self.send(CONTENT, start, 1)
                for byte in CONTENT[start + 1 : start + 30]:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.1)
            case "/slow":
                time.sleep(0.5)
                self.send(CONTENT)
            case "/other":
                self.send(OTHER)
            case "/changed":
                self.send(OTHER, 0, HALF) if first else self.send(CONTENT, start)
            case "/wrong_range":
                self.send(CONTENT, start + 7 if start else 0, HALF)
            case "/endless":
                self.send_response(200)
                self.end_headers()
                for _ in range(100):
                    self.wfile.write(CONTENT)
            case _:
                self.send_error(404)

    def send(self, content: bytes, start: int = 0, limit: int | None = None) -> None:
        """Announce the bytes from `start` on, and send at most `limit` of them."""
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            sent_range = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", sent_range)
        self.end_headers()
        self.wfile.write(content[start:][:limit])

    def log_message(self, *_: object) -> None:
        pass

    def log_error(self, *_: object) -> None:
        pass


@pytest.fixture(name="server")
def start_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Handler, "handle_one_request", _ignore_disconnection)
    Handler.requested = []
    with serving(Handler) as address:
        yield address


def _ignore_disconnection(self: Handler) -> None:
    with suppress(ConnectionError):
        BaseHTTPRequestHandler.handle_one_request(self)
