"""Which requests the studio answers: those of its own page, and of programs on this computer.

Any page in a browser can send requests to 127.0.0.1. So the Host has to be the studio's own
address, which DNS rebinding cannot fake; the Origin, which browsers send with every POST, has to be
the studio's page; and what another site embeds (Sec-Fetch-Site) gets no answer.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 5 * 1_000_000
"""Bytes of a request."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every answer. The page loads nothing from elsewhere and cannot be put into a frame."""


class TooLarge(Exception):
    """The body has more than `MAX_BODY` bytes."""


class Guard:
    """Middleware that refuses foreign requests and large bodies, and adds `HEADERS`.

    - hosts: the names that a request may have as its Host, without a port. A literal address is
      allowed as well if `any_address`: no other site's name can lead there.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], any_address: bool = False) -> None:
        self.app, self.hosts, self.any_address = app, frozenset(hosts), any_address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        problem = self.problem(Headers(scope=scope))
        if problem is not None:
            await PlainTextResponse(problem, 403)(scope, receive, send_guarded)
            return
        try:
            await self.app(scope, _limited(receive), send_guarded)
        except TooLarge:
            if started:
                raise
            text = f"a request may have at most {MAX_BODY // 1_000_000} MB"
            await PlainTextResponse(text, 413)(scope, receive, send_guarded)

    def problem(self, headers: Headers) -> str | None:
        """Why a request with these headers is refused; None if it is not."""
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        name = name.strip("[]").lower()
        if name not in self.hosts and not (self.any_address and _is_address(name)):
            return "refused: the Host is not this studio"
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return "refused: the request comes from another page"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return "refused: the request comes from another site"
        return None


def allowed_hosts(host: str) -> tuple[frozenset[str], bool]:
    """The `hosts` and `any_address` of a `Guard` for a server that listens on `host`."""
    own = {"127.0.0.1", "localhost", "::1"}
    if host in own:
        return frozenset(own), False
    return frozenset(own | {host.lower(), socket.gethostname().lower()}), True


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _limited(receive: Receive) -> Receive:
    size = 0

    async def receive_limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            raise TooLarge
        return message

    return receive_limited
