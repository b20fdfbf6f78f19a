"""Downloads from a local server that cuts off, stalls, redirects and sends wrong content."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from conftest import serving

from datamodules.sources import fetch as fetching
from datamodules.sources.fetch import fetch
from musegen.errors import UserError

CONTENT = random.Random(1).randbytes(300_000)
OTHER = CONTENT[::-1]
THIRD, HALF = len(CONTENT) // 3, len(CONTENT) // 2
SHA = hashlib.sha256(CONTENT).hexdigest()
FORK = multiprocessing.get_context("fork")


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


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Handler, "handle_one_request", _ignore_disconnection)
    Handler.requested = []
    with serving(Handler) as address:
        yield address


def _ignore_disconnection(self: Handler) -> None:
    with suppress(ConnectionError):
        BaseHTTPRequestHandler.handle_one_request(self)


@pytest.fixture
def short_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """One second. A shorter time could be too short for the server on a busy computer."""
    monkeypatch.setattr(fetching, "TIMEOUT", 1.0)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock")


def test_a_file_is_downloaded_once(server: str, tmp_path: Path) -> None:
    for _ in range(2):
        path = fetch("a.bin", [f"{server}/good"], SHA, tmp_path)
        assert path == tmp_path / "a.bin"
        assert path.read_bytes() == CONTENT
    assert Handler.requested == [("/good", 0)]
    path.write_bytes(CONTENT[:-1])  # the file is damaged
    assert fetch("a.bin", [f"{server}/good"], SHA, tmp_path).read_bytes() == CONTENT


@pytest.mark.usefixtures("short_timeout")
@pytest.mark.parametrize("bad", ["missing", "short", "other", "stall", "silent", "drip", "loop"])
def test_the_next_mirror_is_tried_and_no_partial_file_is_left(
    server, tmp_path: Path, bad: str
) -> None:
    path = fetch("a.bin", [f"{server}/{bad}", f"{server}/redirect"], SHA, tmp_path)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["a.bin"]


def test_an_interrupted_download_is_resumed(server: str, tmp_path: Path) -> None:
    assert fetch("a.bin", [f"{server}/cut"], SHA, tmp_path).read_bytes() == CONTENT
    assert Handler.requested == [("/cut", i * THIRD) for i in range(3)]


def test_the_next_mirror_sends_only_the_rest(server: str, tmp_path: Path) -> None:
    fetch("a.bin", [f"{server}/short", f"{server}/good"], SHA, tmp_path)
    assert Handler.requested[-1] == ("/good", HALF)


@pytest.mark.parametrize(
    ("mirror", "existing", "requested"),
    [
        ("whole", CONTENT[:HALF], [HALF]),
        ("good", OTHER[:HALF], [HALF, 0]),
        ("good", OTHER + b"more", [len(CONTENT) + 4, 0]),
        ("good", CONTENT, [len(CONTENT)]),
        ("changed", b"", [0, HALF, 0]),
    ],
    ids=["no ranges", "of another file", "too long", "complete", "changed meanwhile"],
)
def test_a_part_that_does_not_fit_is_downloaded_again(
    server: str, tmp_path: Path, mirror: str, existing: bytes, requested: list[int]
) -> None:
    (tmp_path / "a.bin.part").write_bytes(existing)
    assert fetch("a.bin", [f"{server}/{mirror}"], SHA, tmp_path).read_bytes() == CONTENT
    assert Handler.requested == [(f"/{mirror}", start) for start in requested]
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.usefixtures("short_timeout")
def test_the_error_names_every_mirror(server: str, tmp_path: Path) -> None:
    dead = "http://127.0.0.1:9/file"
    mirrors = [f"{server}/{name}" for name in ("missing", "other", "wrong_range", "stall")]
    with pytest.raises(UserError) as e:
        fetch("a.bin", [*mirrors, dead], SHA, tmp_path)
    message = str(e.value)
    assert f"{server}/missing (HTTPError)" in message
    assert f"{server}/other (wrong content)" in message
    assert f"{server}/wrong_range (not the range of bytes that was requested)" in message
    assert f"{server}/stall (ConnectionError)" in message
    assert f"{dead} (ConnectionError)" in message
    assert SHA in message
    assert str(tmp_path) in message
    assert "\n" not in message
    assert names(tmp_path) == ["a.bin.part"]
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:HALF]


def test_an_endless_download_is_refused(server: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fetching, "MAX_BYTES", 2 << 20)
    with pytest.raises(UserError, match=r"endless \(more than 2 MiB\)"):
        fetch("a.bin", [f"{server}/endless"], SHA, tmp_path)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_refused(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: a.bin cannot be written there"):
        fetch("a.bin", [f"{server}/good"], SHA, tmp_path / "file")
    (tmp_path / "a.bin.part").mkdir()
    with pytest.raises(UserError, match="cannot be written there"):
        fetch("a.bin", [f"{server}/good"], SHA, tmp_path)


def test_one_of_two_processes_downloads(server: str, tmp_path: Path) -> None:
    start = FORK.Barrier(2)

    def download() -> None:
        start.wait()
        path = fetch("a.bin", [f"{server}/slow"], SHA, tmp_path)
        os._exit(0 if path.read_bytes() == CONTENT else 1)

    processes = [FORK.Process(target=download) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert Handler.requested == [("/slow", 0)]


def test_the_download_of_a_killed_process_is_resumed(server: str, tmp_path: Path) -> None:
    killed = FORK.Process(target=fetch, args=("a.bin", [f"{server}/stall"], SHA, tmp_path))
    killed.start()
    part = tmp_path / "a.bin.part"
    while killed.is_alive() and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    killed.kill()
    killed.join()
    have = part.stat().st_size
    assert fetch("a.bin", [f"{server}/good"], SHA, tmp_path).read_bytes() == CONTENT
    assert Handler.requested[-1] == ("/good", have)
