"""Downloads, from a server on this machine that cuts, stalls, lies and sends elsewhere."""

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
    """What is asked for, and from which byte on, is in `asked`."""

    asked: list[tuple[str, int]]

    def do_GET(self) -> None:
        begin = int(re.sub(r"\D", "", self.headers.get("Range", "0")))
        self.asked.append((self.path, begin))
        first = [path for path, _ in self.asked].count(self.path) == 1
        match self.path:
            case "/good":
                self.give(CONTENT, begin)
            case "/whole":  # knows no parts
                self.give(CONTENT)
            case "/moved":
                self.send_response(302)
                self.send_header("Location", "/good")
                self.end_headers()
            case "/loop":
                self.send_response(302)
                self.send_header("Location", "/loop")
                self.end_headers()
            case "/cut":
                self.give(CONTENT, begin, THIRD)
            case "/short":
                self.give(CONTENT, 0, HALF)
            case "/stall":
                self.give(CONTENT, 0, HALF)
                time.sleep(3)
            case "/silent":
                time.sleep(3)
            case "/drip":
                self.give(CONTENT, begin, 1)
                for byte in CONTENT[begin + 1 : begin + 30]:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.1)
            case "/slow":
                time.sleep(0.5)
                self.give(CONTENT)
            case "/other":
                self.give(OTHER)
            case "/changed":
                self.give(OTHER, 0, HALF) if first else self.give(CONTENT, begin)
            case "/liar":
                self.give(CONTENT, begin + 7 if begin else 0, HALF)
            case "/endless":
                self.send_response(200)
                self.end_headers()
                for _ in range(100):
                    self.wfile.write(CONTENT)
            case _:
                self.send_error(404)

    def give(self, content: bytes, begin: int = 0, most: int | None = None) -> None:
        """The bytes from `begin` on, or less of them than are announced."""
        if begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        if begin:
            where = f"bytes {begin}-{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", where)
        self.end_headers()
        self.wfile.write(content[begin:][:most])

    def log_message(self, *_: object) -> None:
        pass

    def log_error(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Handler, "handle_one_request", _until_they_leave)
    Handler.asked = []
    with serving(Handler) as address:
        yield address


def _until_they_leave(self: Handler) -> None:
    with suppress(ConnectionError):
        BaseHTTPRequestHandler.handle_one_request(self)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second has to be enough: for the server as well, on a busy machine."""
    monkeypatch.setattr(fetching, "PATIENCE", 1.0)


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".lock")


def test_downloaded_once(server: str, tmp_path: Path) -> None:
    for _ in range(2):
        path = fetch("a.bin", [f"{server}/good"], SHA, tmp_path)
        assert path == tmp_path / "a.bin"
        assert path.read_bytes() == CONTENT
    assert Handler.asked == [("/good", 0)]
    path.write_bytes(CONTENT[:-1])  # the disk rotted
    assert fetch("a.bin", [f"{server}/good"], SHA, tmp_path).read_bytes() == CONTENT


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("bad", ["missing", "short", "other", "stall", "silent", "drip", "loop"])
def test_the_next_mirror_helps_and_nothing_half_is_left(server, tmp_path: Path, bad: str) -> None:
    path = fetch("a.bin", [f"{server}/{bad}", f"{server}/moved"], SHA, tmp_path)
    assert path.read_bytes() == CONTENT
    assert names(tmp_path) == ["a.bin"]


def test_what_was_cut_is_gone_on_with(server: str, tmp_path: Path) -> None:
    assert fetch("a.bin", [f"{server}/cut"], SHA, tmp_path).read_bytes() == CONTENT
    assert Handler.asked == [("/cut", i * THIRD) for i in range(3)]


def test_the_next_mirror_goes_on_with_what_came(server: str, tmp_path: Path) -> None:
    fetch("a.bin", [f"{server}/short", f"{server}/good"], SHA, tmp_path)
    assert Handler.asked[-1] == ("/good", HALF)


@pytest.mark.parametrize(
    ("mirror", "there", "asked"),
    [
        ("whole", CONTENT[:HALF], [HALF]),
        ("good", OTHER[:HALF], [HALF, 0]),
        ("good", OTHER + b"more", [len(CONTENT) + 4, 0]),
        ("good", CONTENT, [len(CONTENT)]),
        ("changed", b"", [0, HALF, 0]),
    ],
    ids=["no parts given", "of another file", "too long", "was whole", "changed meanwhile"],
)
def test_pieces_that_make_no_whole_are_begun_anew(
    server: str, tmp_path: Path, mirror: str, there: bytes, asked: list[int]
) -> None:
    (tmp_path / "a.bin.part").write_bytes(there)
    assert fetch("a.bin", [f"{server}/{mirror}"], SHA, tmp_path).read_bytes() == CONTENT
    assert Handler.asked == [(f"/{mirror}", begin) for begin in asked]
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.usefixtures("hasty")
def test_no_mirror_helps(server: str, tmp_path: Path) -> None:
    dead = "http://127.0.0.1:9/file"
    mirrors = [f"{server}/{name}" for name in ("missing", "other", "liar", "stall")]
    with pytest.raises(UserError) as e:
        fetch("a.bin", [*mirrors, dead], SHA, tmp_path)
    said = str(e.value)
    assert f"{server}/missing (HTTPError)" in said
    assert f"{server}/other (wrong content)" in said
    assert f"{server}/liar (another part than was asked for)" in said
    assert f"{server}/stall (ConnectionError)" in said
    assert f"{dead} (ConnectionError)" in said
    assert SHA in said
    assert str(tmp_path) in said
    assert "\n" not in said
    assert names(tmp_path) == ["a.bin.part"]
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:HALF]


def test_a_download_without_end(server: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(fetching, "MAX_BYTES", 2 << 20)
    with pytest.raises(UserError, match=r"endless \(more than 2 MiB\)"):
        fetch("a.bin", [f"{server}/endless"], SHA, tmp_path)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_written(server: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file: a.bin cannot be written there"):
        fetch("a.bin", [f"{server}/good"], SHA, tmp_path / "file")
    (tmp_path / "a.bin.part").mkdir()
    with pytest.raises(UserError, match="cannot be written there"):
        fetch("a.bin", [f"{server}/good"], SHA, tmp_path)


def test_two_processes_at_once(server: str, tmp_path: Path) -> None:
    start = FORK.Barrier(2)

    def one() -> None:
        start.wait()
        path = fetch("a.bin", [f"{server}/slow"], SHA, tmp_path)
        os._exit(0 if path.read_bytes() == CONTENT else 1)

    processes = [FORK.Process(target=one) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert Handler.asked == [("/slow", 0)]


def test_what_a_killed_process_had_is_gone_on_with(server: str, tmp_path: Path) -> None:
    killed = FORK.Process(target=fetch, args=("a.bin", [f"{server}/stall"], SHA, tmp_path))
    killed.start()
    part = tmp_path / "a.bin.part"
    while killed.is_alive() and not (part.exists() and part.stat().st_size):
        time.sleep(0.01)
    killed.kill()
    killed.join()
    have = part.stat().st_size
    assert fetch("a.bin", [f"{server}/good"], SHA, tmp_path).read_bytes() == CONTENT
    assert Handler.asked[-1] == ("/good", have)
