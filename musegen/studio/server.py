"""The studio's server: the page, its data, and events of the work that it asks for."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from musegen.config.validation import check_settings
from musegen.errors import UserError
from musegen.render.audio import for_page
from musegen.studio.api import KEPT, Api
from musegen.studio.guard import Guard, allowed_hosts
from musegen.studio.jobs import Busy, Job, Work, Worker
from musegen.studio.models import Catalogue
from musegen.studio.session import Session

STATIC = Path(__file__).parent / "static"
TEMPLATES = Path(__file__).parents[1] / "render" / "templates"
POLL = 0.02
"""Seconds between two questions for a job's newest event."""
KEEP_ALIVE = 10.0
"""Seconds after which a silent connection is written to, which shows whether it is still there."""
SHUTDOWN_SECONDS = 5
"""How long open connections may last when the server is to end."""
Handler = Callable[[Request], Awaitable[Response]]


def make_app(catalogue: Catalogue, session: Session, host: str = "127.0.0.1") -> Starlette:
    """The application. Its worker threads end with `app.state.close()`."""
    studio = _Studio(Api(catalogue, session))
    hosts, any_address = allowed_hosts(host)

    app = Starlette(
        routes=studio.routes(),
        middleware=[Middleware(Guard, hosts=hosts, any_address=any_address)],
        exception_handlers={UserError: _user_error},
    )
    app.state.close = studio.close
    return app


class Server(uvicorn.Server):
    """Serves the application of `make_app`, and ends its work when it is to end."""

    def __init__(self, app: Starlette) -> None:
        settings: dict[str, Any] = {"loop": "asyncio", "http": "h11", "lifespan": "off"}
        settings |= {"log_level": "warning", "access_log": False}
        super().__init__(
            uvicorn.Config(app, timeout_graceful_shutdown=SHUTDOWN_SECONDS, **settings)
        )
        self._close = app.state.close

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Before uvicorn waits for open connections: their work would go on.
        await run_in_threadpool(self._close)
        await super().shutdown(sockets)


async def _user_error(request: Request, error: Exception) -> Response:
    return JSONResponse(
        {"message": " ".join(str(error).split())}, 503 if isinstance(error, Busy) else 400
    )


class _Studio:
    """The handlers, and the two threads that work: one with models, one with files."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.models, self.files = Worker("models"), Worker("files")

    def close(self) -> None:
        self.models.close()
        self.files.close()

    def routes(self) -> list[Route | Mount]:
        work = [
            Route(f"/api/{name}", self._work(call), methods=["POST"])
            for name, call in self.api.generating.items()
        ]
        return [
            Route("/", self._index),
            Route("/report.css", _file(TEMPLATES / "report.css")),
            Route("/piano.js", self._piano),
            Route("/api/models", self._models),
            Route("/api/models/{key:path}/filters", self._filters),
            Route("/api/models/{key:path}", self._model),
            *work,
            Route("/api/keep", self._keep, methods=["POST"]),
            Route("/api/open", self._open, methods=["POST"]),
            Route("/kept/{name}", self._kept),
            Mount("/", StaticFiles(directory=STATIC)),
        ]

    async def _index(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def _piano(self, request: Request) -> Response:
        return Response(await run_in_threadpool(piano_module), media_type="text/javascript")

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"models": await run_in_threadpool(self.api.models)})

    async def _model(self, request: Request) -> Response:
        key = request.path_params["key"]
        return JSONResponse(await run_in_threadpool(self.api.model, key))

    async def _filters(self, request: Request) -> Response:
        key = request.path_params["key"]
        return JSONResponse(await run_in_threadpool(self.api.filters, key))

    def _work(self, call: Callable[..., Work]) -> Handler:
        async def handle(request: Request) -> Response:
            work = await _checked(request, call)
            return _events(self.models.submit(work))

        return handle

    async def _keep(self, request: Request) -> Response:
        return _events(self.files.submit(await _checked(request, self.api.keep)))

    async def _kept(self, request: Request) -> Response:
        path = self.api.session.kept.get(request.path_params["name"])
        if path is None:
            raise HTTPException(404)
        return FileResponse(path, filename=path.name, media_type=KEPT[path.suffix[1:]])

    async def _open(self, request: Request) -> Response:
        return _events(self.files.submit(self.api.open(await request.body())))


async def _checked(request: Request, call: Callable[..., Work]) -> Work:
    """The work of a request, whose JSON object has the arguments of `call`."""
    body = await request.body()

    def prepare() -> Work:
        try:
            arguments = json.loads(body)
        except (ValueError, RecursionError) as e:
            raise UserError("the request should be a JSON object") from e
        if not isinstance(arguments, dict):
            raise UserError("the request should be a JSON object")
        return call(**check_settings(call, arguments, call.__name__))

    return await run_in_threadpool(prepare)


def _events(job: Job) -> Response:
    """The job's events, as server-sent events. If nobody reads them any more, the job stops."""
    return StreamingResponse(_follow(job), media_type="text/event-stream")


async def _follow(job: Job) -> AsyncIterator[str]:
    seen, silent = 0, 0.0
    try:
        while True:
            event = job.newest()
            if event.number > seen:
                seen, silent = event.number, 0.0
                yield f"event: {event.name}\ndata: {json.dumps(event.data)}\n\n"
                if event.last:
                    return
            elif (silent := silent + POLL) >= KEEP_ALIVE:
                silent = 0.0
                yield ": still working\n\n"
            await asyncio.sleep(POLL)
    finally:
        job.stop()


def piano_module() -> str:
    """The piano of the reports (`render/templates/piano.js`) as a module of the page."""
    instrument: dict[str, Any] = for_page("piano")
    return "\n".join([
        f"const instrument = {json.dumps(instrument)};",
        "const fadeIn = (n) => Float32Array.from({ length: n }, "
        "(_, i) => 0.5 - 0.5 * Math.cos(Math.PI * (i + 0.5) / n));",
        (TEMPLATES / "piano.js").read_text(encoding="utf-8"),
        "export { instrument, fadeIn, ready, tone };",
    ])  # fmt: skip


def _file(path: Path) -> Handler:
    async def handle(request: Request) -> Response:
        return FileResponse(path)

    return handle
