"""Downloads, from a server on this machine that also lies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from conftest import serving

from datamodules.fetch import fetch
from musegen.contracts import UserError

CONTENT = b"music" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = {"/good": CONTENT, "/short": CONTENT[:100], "/other": b"x" * 5000}.get(self.path)
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/good")
            self.end_headers()
        elif body is None:
            self.send_error(404)
        else:
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    Handler.asked = []
    with serving(Handler) as address:
        yield address


def test_downloaded_once(server: str, tmp_path: Path) -> None:
    for _ in range(2):
        path = fetch("a.bin", [f"{server}/good"], SHA, tmp_path)
        assert path == tmp_path / "a.bin"
        assert path.read_bytes() == CONTENT
    assert Handler.asked == ["/good"]


@pytest.mark.parametrize("bad", ["missing", "short", "other"])
def test_the_next_mirror_helps_and_nothing_half_is_left(server, tmp_path: Path, bad: str) -> None:
    path = fetch("a.bin", [f"{server}/{bad}", f"{server}/moved"], SHA, tmp_path)
    assert path.read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_no_mirror_helps(server: str, tmp_path: Path) -> None:
    dead = "http://127.0.0.1:9/file"
    with pytest.raises(UserError) as e:
        fetch("a.bin", [f"{server}/other", f"{server}/short", dead], SHA, tmp_path)
    said = str(e.value)
    assert f"{server}/other (wrong content)" in said
    assert f"{dead} (ConnectionError)" in said
    assert SHA in said
    assert str(tmp_path) in said
    assert "\n" not in said
    assert not list(tmp_path.iterdir())
