"""A studio that runs in a thread, for tests, and a client of it."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from musegen.cli.studio import listen
from musegen.studio.models import Catalogue
from musegen.studio.server import Server, make_app
from musegen.studio.session import Session

PATIENCE = 300.0
"""Seconds after which a test fails that would wait for ever. A busy computer needs many."""


class Answer(NamedTuple):
    """A response: its status, its headers, and its body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """Its server-sent events, (name, data) each."""
        blocks = self.body.decode().split("\n\n")
        lines = [block.split("\n") for block in blocks if block.startswith("event: ")]
        return [(name[7:], json.loads(data[6:])) for name, data in lines]

    @property
    def last(self) -> tuple[str, Any]:
        return self.events[-1]


class Client:
    """Sends requests to a studio, as a page of its own would."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port, self.folder = port, folder
        self.address = f"http://127.0.0.1:{port}"

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = self.connection()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, content)

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", f"/api/{path}", content, **headers)

    def done(self, path: str, body: Any) -> Any:
        """The result of work that has to succeed."""
        answer = self.post(path, body)
        assert answer.status == 200, answer.body
        name, data = answer.last
        assert name == "done", data
        return data


@contextmanager
def studio(folder: Path, run: str | None = None, runs: Path | None = None) -> Iterator[Client]:
    """A studio with the pretrained models, whose kept files are in `folder`/kept."""
    kept = folder / "kept"
    app = make_app(Catalogue(run, runs or folder / "runs"), Session(kept))
    listening = listen("127.0.0.1", 0)
    server = Server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield Client(listening.getsockname()[1], kept)
    finally:
        server.should_exit = True
        thread.join(timeout=PATIENCE)
        assert not thread.is_alive()


def wait_for(condition: Any) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
