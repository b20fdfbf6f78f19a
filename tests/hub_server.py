"""A stand-in for the Hugging Face Hub: it has repositories in memory and speaks the Hub's HTTP."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_standin"


class Hub(BaseHTTPRequestHandler):
    """Creates repositories, takes commits of regular files, and serves the files of `main`."""

    repositories: dict[str, dict[str, bytes]]

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def answer(self, code: int, content: Any = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            name = json.loads(body)
            name = f"{name.get('organization') or 'someone'}/{name['name']}"
            self.repositories.setdefault(name, {})
            return self.answer(200, {"url": f"http://{self.headers['Host']}/{name}"})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for f in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    value = item["value"]
                    content = base64.b64decode(value["content"])
                    self.repositories[found[1]][value["path"]] = content
            url = f"http://{self.headers['Host']}/{found[1]}/commit/{self.sha(found[1])}"
            return self.answer(
                200, {"success": True, "commitOid": self.sha(found[1]), "commitUrl": url}
            )
        return self.answer(404, {"error": f"not in the stand-in: POST {path}"})

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/main)?", path):
            name = found[1]
            if name not in self.repositories:
                return self.missing("RepoNotFound", "Repository Not Found")
            files = [{"rfilename": f} for f in self.repositories[name]]
            return self.answer(200, {"id": name, "sha": self.sha(name), "siblings": files})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/\w+", path):
            files = [
                {"type": "file", "path": f, "size": len(c), "oid": hashlib.sha1(c).hexdigest()}
                for f, c in self.repositories[found[1]].items()
            ]
            return self.answer(200, files)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/(\w+)/(.+)", path):
            content = self.repositories.get(found[1], {}).get(found[3])
            if content is None:
                return self.missing("EntryNotFound", "Entry not found")
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            return self.answer(200, content, ETag=etag, X_Repo_Commit=self.sha(found[1]))
        return self.answer(404, {"error": f"not in the stand-in: GET {path}"})

    do_HEAD = do_GET

    def missing(self, code: str, text: str) -> None:
        self.answer(404, {"error": text}, X_Error_Code=code, X_Error_Message=text)

    def sha(self, name: str) -> str:
        """The commit of `main`: a hash of its files."""
        files = sorted(self.repositories[name].items())
        return hashlib.sha1(repr(files).encode()).hexdigest()
