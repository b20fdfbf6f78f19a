"""A simulated W&B server with the requests that a run needs."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

from conftest import serving

KEY = "0" * 40


class Server:
    """The messages that one or several runs have sent."""

    def __init__(self) -> None:
        self.address = ""
        self.messages: list[tuple[str, Any]] = []
        """(kind of message, its content)"""

    def every(self, kind: str) -> list[Any]:
        return [content for name, content in self.messages if name == kind]

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The data of each run: it is created by one message and changed by later ones."""
        runs: dict[str, dict[str, Any]] = {}
        for message in self.every("UpsertBucket"):
            run = runs.setdefault(message["name"], {})
            run |= {k: v for k, v in message.items() if v is not None}
        return list(runs.values())

    @property
    def history(self) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for stream in self.every("file_stream")
            for line in stream.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
        ]

    @property
    def artifacts(self) -> dict[str, list[str]]:
        """The aliases of each artifact by its name, without the run's id."""
        created = [a["input"] for a in self.every("CreateArtifact")]
        return {
            a["artifactCollectionName"].split("-")[0]: [x["alias"] for x in a["aliases"]]
            for a in created
        }

    @property
    def exit_codes(self) -> list[int]:
        return [s["exitcode"] for s in self.every("file_stream") if s.get("exitcode") is not None]

    def answer(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        """The answer to a GraphQL query of wandb."""
        name = query.split("(")[0].split("{")[0].split()[-1]
        self.messages.append((name, given))
        entity = {"id": "e", "name": given.get("entity") or "me"}
        project = {"id": "p", "name": given.get("project"), "entity": entity}
        bucket = {"id": "r", "name": given.get("name"), "project": project, "config": "{}",
                  "displayName": given.get("displayName"), "historyLineCount": 0}  # fmt: skip
        artifact = {"id": "a", "state": "COMMITTED", "artifactSequence": {"latestArtifact": None}}
        return {
            "Viewer": {"viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}",
                                  "teams": {"edges": []}}},
            "ServerFeaturesQuery": {"serverInfo": {"features": []}},
            "RunResumeStatus": {"model": None},
            "UpsertBucket": {"upsertBucket": {"bucket": bucket, "inserted": True}},
            "CreateRunFiles": {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": [
                {"name": f, "uploadUrl": f"{self.address}/{f}"} for f in given.get("files", [])]}},
            "ArtifactType": {"project": None},
            "CreateArtifact": {"createArtifact": {"artifact": artifact}},
        }.get(name, {})  # fmt: skip


@contextmanager
def wandb_server(key: str = KEY) -> Iterator[Server]:
    """A server on the loopback interface that accepts one key."""
    server, secret = Server(), base64.b64encode(f"api:{key}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            if "/otel/" in self.path:  # wandb's metrics about itself
                return self.give({})
            if self.headers.get("Authorization") != f"Basic {secret}":
                return self.give({"errors": [{"message": "who are you?"}]}, 401)
            message = json.loads(content)
            if self.path.endswith("/file_stream"):
                server.messages.append(("file_stream", message))
                return self.give({"exitcode": None, "limits": {}})
            self.give({"data": server.answer(message["query"], message.get("variables") or {})})

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            server.messages.append(("upload", (self.path[1:], content)))
            self.give({})

        def give(self, answer: dict[str, Any], code: int = 200) -> None:
            content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as server.address:
        yield server
